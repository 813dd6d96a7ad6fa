"""The settings of ``lif_fc_mnist``, from flags or from answers at the prompt."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .._backends import selection
from ._data import DATASETS
from ._errors import ExampleError

Convert = Callable[[str], Any]


def _default_device() -> str:
    return "cuda:0" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Settings:
    """What a run of the example depends on; the flags of the same names set it."""

    device: str = dataclasses.field(default_factory=_default_device)
    dataset_dir: str = "data"
    batch_size: int | None = None
    """None for what suits the data set."""
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
    """None for all."""
    amp: bool = False
    cuda_graph: bool = False


@dataclass(frozen=True)
class Option:
    """One setting: its flag, how its text is read, and what is said about it."""

    flag: str
    convert: Convert | None
    """From its text to its value; None for a flag without a value, which is off unless given."""
    help: str
    asked: bool = False
    """Whether the prompt asks for it."""
    fixed: bool = True
    """Whether a resumed run must keep it, since it changes what is learnt."""
    unset: str = ""
    """What is said of the default where that is None."""

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")

    def shown(self, value: Any) -> str:
        return self.unset if value is None else str(value)


# --- from text to values -------------------------------------------------------------------------


def _number(kind: type, text: str, expected: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}") from None


def _integer(minimum: int) -> Convert:
    def convert(text: str) -> int:
        expected = f"an integer >= {minimum}"
        value = _number(int, text, expected)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
        return value

    return convert


def _real(minimum: float, *, exclusive: bool = False) -> Convert:
    def convert(text: str) -> float:
        expected = f"a number {'>' if exclusive else '>='} {minimum:g}"
        value = _number(float, text, expected)
        if not math.isfinite(value) or value < minimum or (exclusive and value == minimum):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
        return value

    return convert


def _choice(*choices: str) -> Convert:
    def convert(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {' or '.join(choices)}")
        return text

    return convert


def _device(text: str) -> str:
    """A device that holds values: unlike an unusable one, "meta" fails only when it is read."""
    try:
        torch.zeros(1, device=text).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a device that PyTorch has here, e.g. cpu or cuda:0 ({reason})"
        ) from None
    return text


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("got nothing, expected a folder")
    return text


OPTIONS = (
    Option("--device", _device, "device to train on, e.g. cpu or cuda:0", asked=True, fixed=False),
    Option("--dataset-dir", _path, "folder of the MNIST files", asked=True, fixed=False),
    Option("--batch-size", _integer(1), "images per batch", asked=True, unset="128 (digits: 16)"),
    Option("--learning-rate", _real(0, exclusive=True), "learning rate of Adam", asked=True),
    Option("-T", _integer(1), "steps that each image is shown for", asked=True),
    Option("--tau", _real(1), "membrane time constant of the LIF neurons, in steps", asked=True),
    Option("--epochs", _integer(1), "passes over the training images", asked=True, fixed=False),
    Option(
        "--log-dir", _path, "folder for checkpoint and TensorBoard logs", asked=True, fixed=False
    ),
    Option(
        "--dataset",
        _choice(*DATASETS),
        "mnist; fashion-mnist; digits: scikit-learn's, 8x8, offline; auto: mnist if it can be "
        "had, else digits",
    ),
    Option(
        "--encoder",
        _choice("poisson", "direct"),
        "poisson: random spikes at the rate of the intensity; direct: the intensity as it is",
    ),
    Option(
        "--step-mode",
        _choice("s", "m"),
        "s: step by step; m: all steps in one kernel; the same spikes in both",
        fixed=False,
    ),
    Option(
        "--backend",
        _choice(*selection.KERNEL_DEVICES),
        f"{selection.help_text()}; auto: the first of them that can be had",
        fixed=False,
    ),
    Option("--seed", _integer(0), "seed of weights, shuffling and spikes"),
    Option("--train-samples", _integer(1), "train on the first N images only", unset="all"),
    Option("--amp", None, "autocast to bfloat16"),
    Option(
        "--cuda-graph",
        None,
        "capture a whole training step and replay it, so that the host costs next to nothing",
        fixed=False,
    ),
)


# --- flags ---------------------------------------------------------------------------------------


def read_arguments(
    argv: Sequence[str], description: str, example: str, defaults: Settings
) -> tuple[dict[str, Any], bool]:
    """The settings that ``argv`` gives, and whether to resume.

    ``example`` is the command's name; ``defaults`` are shown where nobody gives a setting.

    Raises:
        SystemExit: a flag is unknown or its value makes no sense, or help was asked for.
    """
    given = vars(_parser(description, example, defaults).parse_args(argv))
    return given, given.pop("resume", False)


def _parser(description: str, example: str, defaults: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=example,
        usage="%(prog)s [flags]",
        description=description,
        epilog="Without any flag, the first eight are asked for at the prompt.",
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for option in OPTIONS:
        if option.convert is None:
            parser.add_argument(option.flag, action="store_true", help=option.help)
            continue
        default = option.shown(getattr(defaults, option.name))
        parser.add_argument(
            option.flag,
            type=option.convert,
            metavar=option.name.upper(),
            help=f"{option.help} (default: {default})",
        )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on after the last finished epoch in the log dir, with its settings unless given",
    )
    return parser


def resumed(saved: Settings, given: dict[str, Any]) -> Settings:
    """The settings of a run that goes on: as saved, but for what is given anew.

    Raises:
        ExampleError: a setting that changes what is learnt was given another value.
    """
    for option in OPTIONS:
        before = getattr(saved, option.name)
        now = given.get(option.name, before)
        if option.fixed and now != before and (option.name, now) != ("dataset", "auto"):
            raise ExampleError(
                f"the run in {given.get('log_dir', saved.log_dir)} was begun with {option.flag} "
                f"{before}, and cannot go on with {now}: leave {option.flag} out, or begin another "
                "run in another --log-dir"
            )
    free = {o.name: given[o.name] for o in OPTIONS if not o.fixed and o.name in given}
    return dataclasses.replace(saved, **free)


# --- prompt --------------------------------------------------------------------------------------


def ask(defaults: Settings) -> dict[str, Any]:
    """Ask for the main settings, one by one; at the end of input the rest keeps its defaults."""
    given: dict[str, Any] = {}
    print("Answer, or press Enter for the value in brackets.")
    try:
        for option in (option for option in OPTIONS if option.asked):
            given[option.name] = _ask(option, getattr(defaults, option.name))
    except EOFError:
        rest = [o for o in OPTIONS if o.asked and o.name not in given]
        values = ", ".join(f"{o.flag} {o.shown(getattr(defaults, o.name))}" for o in rest)
        print(f"\nNo more answers: going on with {values}.", file=sys.stderr)
    return given


def _ask(option: Option, default: Any) -> Any:
    name, shown = option.flag.lstrip("-"), option.shown(default)
    question = f"{option.help[0].upper()}{option.help[1:]} ({name}) [{shown}]: "
    while True:
        answer = input(question).strip()
        if not answer:
            return default
        assert option.convert is not None
        try:
            return option.convert(answer)
        except argparse.ArgumentTypeError as error:
            print(f"  {name}: {error}. Try again.")
