"""The settings of a run, from flags or from answers at the prompt."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._backends import selection
from . import ExampleError, reason

_ASKED = 8
"""How many of the settings the prompt asks for."""

_FREE = ("device", "dataset_dir", "epochs", "log_dir", "step_mode", "backend", "cuda_graph")
"""What a resumed run may change; the others change what is learnt."""

_UNSET = {"batch_size": "128 (digits: 16)", "train_samples": "all"}
"""What is said of a default that is None."""


def _checked(
    kind: Callable[[str], Any], accepts: Callable[[Any], bool], expected: str
) -> Callable[[str], Any]:
    """A type for argparse: a ``kind`` that ``accepts``."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
        return value

    return convert


_folder = _checked(str, bool, "a folder")
_count = _checked(int, lambda n: 1 <= n < 2**63, "an integer >= 1 and < 2**63")
_seed = _checked(int, lambda n: 0 <= n < 2**63, "an integer >= 0 and < 2**63")
_rate = _checked(float, lambda x: 0 < x < math.inf, "a number > 0")
_tau = _checked(float, lambda x: 1 <= x < math.inf, "a number >= 1")


def _device(text: str) -> str:
    """A device that holds values: unlike an unusable one, "meta" fails only when it is read."""
    try:
        torch.zeros(1, device=text).item()
    except Exception as error:  # each kind of device has its own
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a device that PyTorch has here, e.g. cpu or cuda:0 "
            f"({reason(error)})"
        ) from None
    return text


def _flag(default: Any, help: str, what: Any = None) -> Any:
    """A setting, its default, and its type or choices; one that is off by default has neither."""
    how = {"type": what} if callable(what) else {"choices": what}
    if default is False:
        how = {"action": "store_true"}
    return dataclasses.field(default=default, metadata={"help": help, **how})


_DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
_SOURCES = ("mnist", "fashion-mnist", "digits", "auto")
_BACKENDS = f"{selection.help_text()}; auto: the first of them that can be had"


@dataclass(frozen=True)
class Settings:
    """What a run depends on; each has a flag of its name."""

    device: str = _flag(_DEVICE, "device to train on, e.g. cpu or cuda:0", _device)
    dataset_dir: str = _flag("data", "folder of the MNIST files", _folder)
    batch_size: int | None = _flag(None, "images per batch", _count)
    learning_rate: float = _flag(1e-3, "learning rate of Adam", _rate)
    T: int = _flag(50, "steps that each image is shown for", _count)
    tau: float = _flag(2.0, "membrane time constant of the LIF neurons, in steps", _tau)
    epochs: int = _flag(3, "passes over the training images", _count)
    log_dir: str = _flag("runs/lif_fc_mnist", "folder for checkpoint and TensorBoard logs", _folder)
    dataset: str = _flag("mnist", "digits: 8x8, offline; auto: mnist, else digits", _SOURCES)
    encoder: str = _flag("poisson", "random spikes, or intensities", ("poisson", "direct"))
    step_mode: str = _flag("m", "s: step by step; m: all steps in one kernel", ("s", "m"))
    backend: str = _flag("auto", _BACKENDS, tuple(selection.KERNEL_DEVICES))
    seed: int = _flag(0, "seed of weights, shuffling and spikes", _seed)
    train_samples: int | None = _flag(None, "train on the first N images only", _count)
    amp: bool = _flag(False, "autocast to bfloat16")
    cuda_graph: bool = _flag(False, "capture a training step, and replay it")

    @property
    def checkpoint(self) -> Path:
        """The file of the run's checkpoint."""
        return Path(self.log_dir) / "checkpoint.pt"


def _option(name: str) -> str:
    return "-T" if name == "T" else f"--{name.replace('_', '-')}"


class Parser(argparse.ArgumentParser):
    """The flags of the command ``example``, and its prompt, with ``defaults`` for what is left."""

    def __init__(self, example: str, description: str, defaults: Settings) -> None:
        super().__init__(
            prog=example,
            usage="%(prog)s [flags]",
            description=description,
            epilog="Without any flag, the first eight are asked for at the prompt.",
            allow_abbrev=False,
        )
        self.set_defaults(**dataclasses.asdict(defaults))
        for each in dataclasses.fields(Settings):
            action = self.add_argument(_option(each.name), **each.metadata)
            if action.nargs != 0:
                action.help = f"{action.help} (default: {self._shown(each.name)})"
        going_on = "go on after the last finished epoch in the log dir, with its settings"
        self.add_argument("--resume", action="store_true", help=going_on)

    def _shown(self, name: str) -> str:
        default = self.get_default(name)
        return _UNSET[name] if default is None else str(default)

    def read(self, argv: Sequence[str]) -> tuple[Settings, bool]:
        """The settings that ``argv`` gives, and whether to resume.

        Raises:
            SystemExit: a flag is unknown or its value makes no sense, or help was asked for.
        """
        values = vars(self.parse_args(argv))
        resume = values.pop("resume")
        return Settings(**values), resume

    def read_resumed(self, argv: Sequence[str], saved: Settings) -> Settings:
        """The settings of a run that goes on: as saved, but for what ``argv`` gives anew.

        Raises:
            ExampleError: a setting that changes what is learnt was given another value.
        """
        folder = self.read(argv)[0].log_dir
        self.set_defaults(**{**dataclasses.asdict(saved), "log_dir": folder})
        settings, _ = self.read(argv)
        if settings.dataset == "auto":
            settings = dataclasses.replace(settings, dataset=saved.dataset)
        for name, before in dataclasses.asdict(saved).items():
            now, flag = getattr(settings, name), _option(name)
            if now != before and name not in _FREE:
                raise ExampleError(
                    f"the run in {folder} was begun with {flag} {before}, and cannot go on with "
                    f"{now}: leave {flag} out, or begin another run in another --log-dir"
                )
        return settings

    def ask(self) -> list[str]:
        """Ask for the main settings, one by one, and give them as flags.

        At the end of input the rest keeps its defaults.
        """
        asked, answers = dataclasses.fields(Settings)[:_ASKED], dict[str, str]()
        print("Answer, or press Enter for the value in brackets.")
        try:
            for each in asked:
                answers[_option(each.name)] = self._ask(each.name, **each.metadata)
        except EOFError:
            rest = (f"{_option(e.name)} {self._shown(e.name)}" for e in asked[len(answers) :])
            print(f"\nNo more answers: going on with {', '.join(rest)}.", file=sys.stderr)
        return [f"{flag}={answer}" for flag, answer in answers.items() if answer]

    def _ask(self, name: str, help: str, type: Callable[[str], Any]) -> str:
        """An answer that makes sense, or an empty one."""
        flag = _option(name).lstrip("-")
        question = f"{help[0].upper()}{help[1:]} ({flag}) [{self._shown(name)}]: "
        while answer := input(question).strip():
            try:
                type(answer)
                break
            except argparse.ArgumentTypeError as error:
                print(f"  {flag}: {error}. Try again.")
        return answer
