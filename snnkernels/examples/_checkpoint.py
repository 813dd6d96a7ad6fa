"""Checkpoints that a kill cannot spoil."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn, optim

from ._errors import ExampleError
from ._settings import Settings

_FORMAT = 1


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
        return cls(content["epoch"], Figures(**content["training"]), Figures(**content["test"]))


@dataclass(frozen=True)
class Checkpoint:
    """A run after a finished epoch: all that the next epoch depends on."""

    settings: Settings
    results: list[EpochResult]
    net: dict[str, Any]
    optimizer: dict[str, Any]
    generators: dict[str, Tensor]

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
        )

    def restore(self, net: nn.Module, optimizer: optim.Optimizer, device: torch.device) -> None:
        """Put ``net``, ``optimizer`` and the random number generators into this state.

        A run that goes on on another kind of device keeps its weights, but draws other spikes.
        """
        net.load_state_dict(self.net)
        optimizer.load_state_dict(self.optimizer)
        torch.set_rng_state(self.generators["cpu"])
        if device.type == "cuda" and "cuda" in self.generators:
            torch.cuda.set_rng_state(self.generators["cuda"], device)

    def save(self, path: Path) -> None:
        """Write to ``path``, which at any moment holds the last checkpoint or this one, whole."""
        content = {
            "format": _FORMAT,
            "settings": dataclasses.asdict(self.settings),
            "results": [dataclasses.asdict(result) for result in self.results],
            "net": self.net,
            "optimizer": self.optimizer,
            "generators": self.generators,
        }
        unfinished = path.with_name(f"{path.name}.unfinished")
        with unfinished.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """The checkpoint at ``path``, or None where there is none.

        Raises:
            ExampleError: the file is not a checkpoint of this example, or damaged.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")
            return cls(
                Settings(**content["settings"]),
                [EpochResult.from_dict(result) for result in content["results"]],
                content["net"],
                content["optimizer"],
                content["generators"],
            )
        except FileNotFoundError:
            return None
        except (
            RuntimeError,
            ValueError,
            LookupError,
            TypeError,
            EOFError,
            UnpicklingError,
        ) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ExampleError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return ExampleError(
        f"{path} is not a checkpoint of this example ({reason}): move it away, or name another "
        "--log-dir"
    )


def _generator_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
