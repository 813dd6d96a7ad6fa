"""``python -m benchmarks``: a command for each thing that can be measured, written or installed."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType

import torch
from rich.console import Console
from rich.markup import escape

from benchmarks import gpu_round, machine_code, mnist, pages, run, startup, sweep, targets
from benchmarks.peers import command as peers
from benchmarks.suites import SUITES
from snnkernels._build import BuildError

PLAIN_WIDTH = 150

Act = Callable[[argparse.Namespace, Console], int]


@dataclass(frozen=True)
class Command:
    """``add`` tells the parser what can be asked for, ``act`` does it and gives the exit code."""

    name: str
    title: str
    add: Callable[[argparse.ArgumentParser], None]
    act: Act


def main(argv: Sequence[str] | None = None) -> int:
    """Do a command; returns 0, 1 after a failed check or build, 130 if interrupted."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 0
    if getattr(options, "threads", None):
        torch.set_num_threads(options.threads)
    console = make_console()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code: int = options.act(options, console)
    except (BuildError, startup.StartupFailed) as error:
        console.print(f"[red]error:[/] {escape(str(error))}")
        return 1
    return code


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Fused kernels in time and memory, against plain PyTorch and other libraries.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for each in COMMANDS:
        own = commands.add_parser(each.name, help=each.title, description=each.title)
        each.add(own)
        own.set_defaults(act=each.act)
    return parser


def make_console() -> Console:
    """The terminal; a fixed width that fits the tables where output goes elsewhere."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends a run as ctrl-C does, with what was measured until then."""
    raise KeyboardInterrupt


COMMANDS = (
    *(
        Command(each.name, each.title, partial(run.add_suite, each), partial(run.run_suite, each))
        for each in SUITES
    ),
    Command("peers", "this package beside other libraries", peers.add, peers.run),
    Command("install", "what peers needs, once", peers.add_install, peers.install),
    Command("startup", "import and first build", startup.add, startup.run),
    Command("targets", "this package's own aims, met or missed", targets.add, targets.run),
    Command("sweep", "kernels by their launch constants", sweep.add, sweep.run),
    Command(
        "machine-code",
        "what a GPU's compiler makes of the kernels, without a GPU",
        machine_code.add,
        machine_code.run,
    ),
    Command("gpu-round", "all of it on a machine with a GPU", gpu_round.add, gpu_round.run),
    Command("mnist", "what runs of the MNIST example left", mnist.add, mnist.run),
    Command("report", "tables and pictures of docs/, from JSON", pages.add, pages.run),
)


if __name__ == "__main__":
    sys.exit(main())
