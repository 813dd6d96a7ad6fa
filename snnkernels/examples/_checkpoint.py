"""Checkpoints that a kill cannot spoil."""

from __future__ import annotations

import dataclasses
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim

from .._build.cache import sync
from . import ExampleError
from ._report import EpochResult, Figures
from ._settings import Settings

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A run after a finished epoch; ``content`` is all that the next one depends on."""

    settings: Settings
    results: list[EpochResult]
    content: dict[str, Any]

    def restore(self, settings: Settings, net: nn.Module, optimizer: optim.Optimizer) -> None:
        """Put ``net``, ``optimizer`` and the random number generators into this state.

        A run that goes on on another kind of device keeps its weights, but draws other spikes.
        ``settings`` are those that it goes on with.

        Raises:
            ExampleError: this is the state of another network.
        """
        try:
            if self.content["modules"] != _modules(net):
                raise ValueError("it has other layers or neurons")
            net.load_state_dict(self.content["net"])
            for group in self.content["optimizer"]["param_groups"]:
                group["capturable"] = settings.cuda_graph
            optimizer.load_state_dict(self.content["optimizer"])
            generators = self.content["generators"]
            torch.set_rng_state(generators["cpu"])
            if torch.device(settings.device).type == "cuda" and "cuda" in generators:
                torch.cuda.set_rng_state(generators["cuda"], settings.device)
        except Exception as error:  # nobody lists what torch raises for a foreign state
            expected = "the checkpoint of this run's network"
            raise _refused(settings.checkpoint, expected, error) from error


def save(
    settings: Settings, results: list[EpochResult], net: nn.Module, optimizer: optim.Optimizer
) -> None:
    """Write to ``settings.checkpoint``, which at any moment holds the last one or this, whole.

    Raises:
        OSError: it can't be written, and the last one is still there.
    """
    generators = {"cpu": torch.get_rng_state()}
    if torch.device(settings.device).type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(settings.device)
    content = {
        "format": _FORMAT,
        "settings": dataclasses.asdict(settings),
        "results": [dataclasses.asdict(result) for result in results],
        "net": net.state_dict(),
        "modules": _modules(net),
        "optimizer": optimizer.state_dict(),
        "generators": generators,
    }
    path = settings.checkpoint
    unfinished = path.with_name(f"{path.name}.unfinished")
    written = io.BytesIO()  # to a file torch.save would say little of a full disk
    torch.save(content, written)
    try:
        unfinished.write_bytes(written.getbuffer())
        sync(unfinished)
        os.replace(unfinished, path)
        sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: Path) -> Checkpoint | None:
    """The checkpoint at ``path``, or None where there is none.

    Raises:
        ExampleError: the file is not a checkpoint of this version of the examples, or damaged.
    """
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")
        results = [
            EpochResult(each["epoch"], Figures(**each["training"]), Figures(**each["test"]))
            for each in content["results"]
        ]
        return Checkpoint(Settings(**content["settings"]), results, content)
    except FileNotFoundError:
        return None
    except Exception as error:  # nobody lists what torch raises for a damaged file
        raise _refused(path, "a checkpoint of this example", error) from error


def _refused(path: Path, expected: str, error: Exception) -> ExampleError:
    reason = " ".join(" ".join(str(error).split("\n")[:2]).split()) or type(error).__name__
    if isinstance(error, KeyError):
        reason = f"it lacks {reason}"
    return ExampleError(
        f"{path} is not {expected} ({reason}): move it away, or name another --log-dir"
    )


def _check_sums(path: Path) -> None:
    """torch.load takes bytes as they are; the archive that they come in has sums of them."""
    with zipfile.ZipFile(path) as archive:
        marked = (record.filename for record in archive.infolist() if record.external_attr)
        damaged = archive.testzip() or next(marked, None)  # torch takes marks for a folder's
    if damaged is not None:
        raise ValueError(f"its record {damaged} is damaged")


def _modules(net: nn.Module) -> dict[str, str]:
    return {name: type(module).__qualname__ for name, module in net.named_modules()}
