"""Checkpoints that a kill cannot spoil."""

from __future__ import annotations

import dataclasses
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim

from .._build.cache import sync
from . import ExampleError, reason
from ._settings import Settings

_FORMAT = 1


def save(
    settings: Settings, results: list[Any], net: nn.Module, optimizer: optim.Optimizer
) -> None:
    """Write a run after a finished epoch: all that the next one depends on.

    ``settings.checkpoint`` at any moment holds the last one or this, whole.

    Raises:
        OSError: it can't be written, and the last one is still there.
    """
    generators = {"cpu": torch.get_rng_state()}
    if torch.device(settings.device).type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(settings.device)
    content = {
        "format": _FORMAT,
        "settings": dataclasses.asdict(settings),
        "results": results,
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


def load(path: Path) -> dict[str, Any] | None:
    """What ``save`` wrote to ``path``, or None where there is none.

    Raises:
        ExampleError: the file is not a checkpoint of this version of the examples, or damaged.
    """
    if not path.exists():
        return None
    with _refused(path, "a checkpoint of this example"):
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at its sums,
            marked = (record.filename for record in archive.infolist() if record.external_attr)
            damaged = archive.testzip() or next(marked, None)  # and takes marks for a folder's
        if damaged is not None:
            raise ValueError(f"its record {damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")
        return {**content, "settings": Settings(**content["settings"])}


def restore(
    content: dict[str, Any], settings: Settings, net: nn.Module, optimizer: optim.Optimizer
) -> None:
    """Put ``net``, ``optimizer`` and the random number generators into the state of a checkpoint.

    ``settings`` are those to go on with; on another kind of device the run draws other spikes.

    Raises:
        ExampleError: this is the state of another network.
    """
    with _refused(settings.checkpoint, "the checkpoint of this run's network"):
        if content["modules"] != _modules(net):
            raise ValueError("it has other layers or neurons")
        net.load_state_dict(content["net"])
        for group in content["optimizer"]["param_groups"]:
            group["capturable"] = settings.cuda_graph
        optimizer.load_state_dict(content["optimizer"])
        generators = content["generators"]
        torch.set_rng_state(generators["cpu"])
        if torch.device(settings.device).type == "cuda" and "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"], settings.device)


@contextmanager
def _refused(path: Path, expected: str) -> Iterator[None]:
    """Say that what makes no sense to the block is not what is ``expected`` at ``path``."""
    try:
        yield
    except Exception as error:  # nobody lists what torch raises for a damaged file
        found = "it lacks " * isinstance(error, KeyError) + reason(error)
        raise ExampleError(
            f"{path} is not {expected} ({found}): move it away, or name another --log-dir"
        ) from error


def _modules(net: nn.Module) -> dict[str, str]:
    return {name: type(module).__qualname__ for name, module in net.named_modules()}
