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
from . import ExampleError

_FIXED = (
    *("--batch-size", "--learning-rate", "-T", "--tau", "--dataset", "--encoder", "--seed"),
    *("--train-samples", "--amp"),
)
"""What a resumed run must keep, since it changes what is learnt."""

_UNSET = {"batch_size": "128 (digits: 16)", "train_samples": "all"}
"""What is said of a default that is None."""


@dataclass(frozen=True)
class Settings:
    """What a run depends on; the flags of the same names set it, and their help says what it is."""

    device: str = dataclasses.field(
        default_factory=lambda: "cuda:0" if torch.cuda.is_available() else "cpu"
    )
    dataset_dir: str = "data"
    batch_size: int | None = None
    learning_rate: float = 1e-3
    T: int = 50
    tau: float = 2.0
    epochs: int = 3
    log_dir: str = "runs/lif_fc_mnist"
    dataset: str = "mnist"
    encoder: str = "poisson"
    step_mode: str = "m"
    backend: str = "auto"
    seed: int = 0
    train_samples: int | None = None
    amp: bool = False
    cuda_graph: bool = False

    @property
    def checkpoint(self) -> Path:
        """The file of the run's checkpoint."""
        return Path(self.log_dir) / "checkpoint.pt"


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
        reason = str(error).partition("\n")[0]
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a device that PyTorch has here, e.g. cpu or cuda:0 ({reason})"
        ) from None
    return text


def _default(action: argparse.Action) -> str:
    return _UNSET[action.dest] if action.default is None else str(action.default)


class _Formatter(argparse.HelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.nargs == 0 else f"{action.help} (default: {_default(action)})"


class Parser(argparse.ArgumentParser):
    """The flags of an example, and its prompt.

    Args:
        example: the command's name.
        description: what ``--help`` says.
        defaults: the settings that nobody gives.
    """

    def __init__(self, example: str, description: str, defaults: Settings) -> None:
        super().__init__(
            prog=example,
            usage="%(prog)s [flags]",
            description=description,
            epilog="Without any flag, the first eight are asked for at the prompt.",
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        add = self.add_argument
        self.asked = [
            add("--device", type=_device, help="device to train on, e.g. cpu or cuda:0"),
            add("--dataset-dir", type=_folder, help="folder of the MNIST files"),
            add("--batch-size", type=_count, help="images per batch"),
            add("--learning-rate", type=_rate, help="learning rate of Adam"),
            add("-T", type=_count, help="steps that each image is shown for"),
            add("--tau", type=_tau, help="membrane time constant of the LIF neurons, in steps"),
            add("--epochs", type=_count, help="passes over the training images"),
            add("--log-dir", type=_folder, help="folder for checkpoint and TensorBoard logs"),
        ]
        sources = ("mnist", "fashion-mnist", "digits", "auto")
        add("--dataset", choices=sources, help="digits: 8x8, offline; auto: mnist, else digits")
        ways = "poisson: random spikes at the rate of the intensity; direct: the intensity as it is"
        add("--encoder", choices=("poisson", "direct"), help=ways)
        add("--step-mode", choices=("s", "m"), help="s: step by step; m: all steps in one kernel")
        backends = f"{selection.help_text()}; auto: the first of them that can be had"
        add("--backend", choices=tuple(selection.KERNEL_DEVICES), help=backends)
        add("--seed", type=_seed, help="seed of weights, shuffling and spikes")
        add("--train-samples", type=_count, help="train on the first N images only")
        add("--amp", action="store_true", help="autocast to bfloat16")
        add("--cuda-graph", action="store_true", help="capture a training step, and replay it")
        going_on = "go on after the last finished epoch in the log dir, with its settings"
        add("--resume", action="store_true", help=going_on)
        self.set_defaults(**dataclasses.asdict(defaults))

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
        for flag in _FIXED:
            name = flag.lstrip("-").replace("-", "_")
            before, now = getattr(saved, name), getattr(settings, name)
            if now != before:
                raise ExampleError(
                    f"the run in {folder} was begun with {flag} {before}, and cannot go on with "
                    f"{now}: leave {flag} out, or begin another run in another --log-dir"
                )
        return settings

    def ask(self) -> list[str]:
        """Ask for the main settings, one by one, and give them as flags.

        At the end of input the rest keeps its defaults.
        """
        flags: list[str] = []
        print("Answer, or press Enter for the value in brackets.")
        for index, action in enumerate(self.asked):
            try:
                flags += _ask(action)
            except EOFError:
                rest = (f"{a.option_strings[0]} {_default(a)}" for a in self.asked[index:])
                print(f"\nNo more answers: going on with {', '.join(rest)}.", file=sys.stderr)
                break
        return flags


def _ask(action: argparse.Action) -> list[str]:
    flag, text = action.option_strings[0], str(action.help)
    name = flag.lstrip("-")
    while True:
        answer = input(f"{text[0].upper()}{text[1:]} ({name}) [{_default(action)}]: ").strip()
        if not answer:
            return []
        try:
            assert callable(action.type)
            action.type(answer)
        except argparse.ArgumentTypeError as error:
            print(f"  {name}: {error}. Try again.")
        else:
            return [f"{flag}={answer}"]
