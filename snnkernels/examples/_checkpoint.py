"""Checkpoints that a kill cannot spoil."""

from __future__ import annotations

import dataclasses
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor, nn, optim

from .._build.cache import sync
from ._errors import ExampleError
from ._settings import Settings

_FORMAT = 1
_GARBAGE = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, OSError)
"""What torch and the steps below raise for contents that make no sense."""

_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Figures:
    """What a pass over samples came to: mean loss, accuracy in [0, 1], and wall-clock seconds."""

    samples: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class EpochResult:
    """An epoch, counted from 1, and what its training and its test came to."""

    epoch: int
    training: Figures
    test: Figures

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> EpochResult:
        """The inverse of ``dataclasses.asdict``."""
        figures = (_record(Figures, content[name]) for name in ("training", "test"))
        return cls(int(content["epoch"]), *figures)


def _record(cls: type[_Record], fields: dict[str, Any]) -> _Record:
    """Make a dataclass of fields whose values may be of wrong types.

    Raises:
        TypeError: some are.
    """
    for name, expected in get_type_hints(cls).items():
        value = fields.get(name)
        fits = isinstance(value, expected) or (expected is float and isinstance(value, int))
        if name in fields and not fits:
            raise TypeError(f"{name}: expected {expected}, got {value!r}")
    return cls(**fields)


@dataclass(frozen=True)
class Checkpoint:
    """A run after a finished epoch: all that the next epoch depends on.

    Attributes:
        settings: those of the run.
        results: one for each epoch.
        net: the network's ``state_dict``.
        optimizer: that of the optimizer.
        generators: states of the random number generators.
        modules: the network's modules: names and classes; empty if that is unknown.
    """

    settings: Settings
    results: list[EpochResult]
    net: dict[str, Any]
    optimizer: dict[str, Any]
    generators: dict[str, Tensor]
    modules: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        settings: Settings,
        results: list[EpochResult],
        net: nn.Module,
        optimizer: optim.Optimizer,
    ) -> Checkpoint:
        """The state of a run now, between two epochs."""
        return cls(
            settings,
            results,
            net.state_dict(),
            optimizer.state_dict(),
            _generator_states(torch.device(settings.device)),
            _modules(net),
        )

    def restore(
        self, net: nn.Module, optimizer: optim.Optimizer, device: torch.device, path: Path
    ) -> None:
        """Put ``net``, ``optimizer`` and the random number generators into this state.

        A run that goes on on another kind of device keeps its weights, but draws other spikes.

        Raises:
            ExampleError: this is the state of another network or optimizer; it names ``path``.
        """
        try:
            if self.modules and self.modules != _modules(net):
                raise ValueError("it has other layers or neurons")
            net.load_state_dict(self.net)
            _check_optimizer(self.optimizer, optimizer)
            optimizer.load_state_dict(self.optimizer)
            torch.set_rng_state(self.generators["cpu"])
            if device.type == "cuda" and "cuda" in self.generators:
                torch.cuda.set_rng_state(self.generators["cuda"], device)
        except _GARBAGE as error:
            raise ExampleError(
                f"{path} is the checkpoint of another network or optimizer than this run's "
                f"({_reason(error)}): {_REMEDY}"
            ) from error

    def save(self, path: Path) -> None:
        """Write to ``path``, which at any moment holds the last checkpoint or this one, whole.

        Raises:
            ExampleError: it can't be written, and the last one is still there.
        """
        content = {
            "format": _FORMAT,
            "settings": dataclasses.asdict(self.settings),
            "results": [dataclasses.asdict(result) for result in self.results],
            "net": self.net,
            "optimizer": self.optimizer,
            "generators": self.generators,
            "modules": self.modules,
        }
        unfinished = path.with_name(f"{path.name}.unfinished")
        written = io.BytesIO()  # to a file torch.save would say little of a full disk
        torch.save(content, written)
        try:
            unfinished.write_bytes(written.getbuffer())
            sync(unfinished)
            os.replace(unfinished, path)
            sync(path.parent)
        except OSError as error:
            raise ExampleError(
                f"the checkpoint of epoch {len(self.results)} can't be written ({error}): after "
                f"mending that, --resume goes on from {path}, which is that of the epoch before"
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """The checkpoint at ``path``, or None where there is none.

        Raises:
            ExampleError: the file is not a checkpoint of this example, or damaged.
        """
        try:
            _check_sums(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")
            return cls(
                _record(Settings, content["settings"]),
                [EpochResult.from_dict(result) for result in content["results"]],
                content["net"],
                content["optimizer"],
                content["generators"],
                content.get("modules", {}),
            )
        except FileNotFoundError:
            return None
        except (*_GARBAGE, UnpicklingError, zipfile.BadZipFile) as error:
            raise ExampleError(
                f"{path} is not a checkpoint of this example ({_reason(error)}): {_REMEDY}"
            ) from error


_REMEDY = "move it away, or name another --log-dir"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(line.strip() for line in lines[:2]) or type(error).__name__


def _check_sums(path: Path) -> None:
    """torch.load takes bytes as they are; the archive that they come in has sums of them.

    Raises:
        ValueError: the sums are wrong.
        OSError, zipfile.BadZipFile: the file can't be read, or is no such archive.
    """
    with zipfile.ZipFile(path) as archive:
        marked = (record.filename for record in archive.infolist() if record.external_attr)
        damaged = archive.testzip() or next(marked, None)  # torch takes marks for a folder's
    if damaged is not None:
        raise ValueError(f"its record {damaged} is damaged")


def _modules(net: nn.Module) -> dict[str, str]:
    return {name: type(module).__qualname__ for name, module in net.named_modules()}


def _check_optimizer(saved: dict[str, Any], optimizer: optim.Optimizer) -> None:
    """torch compares no more than the numbers of parameters.

    Raises:
        ValueError: the state is that of an optimizer of another kind, or of other parameters.
    """
    own = optimizer.state_dict()["param_groups"]
    if [group.keys() for group in saved["param_groups"]] != [group.keys() for group in own]:
        raise ValueError(f"its optimizer is no {type(optimizer).__name__}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, state in saved["state"].items():
        for name, value in state.items():
            if value.dim() and value.shape != parameters[index].shape:
                raise ValueError(f"its optimizer has {name} of other sizes")


def _generator_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
