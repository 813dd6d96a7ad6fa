"""The command line of ``python -m benchmarks``: options, and what is wrong with them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks import cases, contenders
from benchmarks.peers import catalogue, workloads
from snnkernels._backends import selection

DEFAULT_BUDGET = 2.5
QUICK_BUDGET = 0.6
AXES = ("neurons", "dtypes", "shapes", "modes")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; a mistake is named on stderr and exits with code 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    checks = (_check_selection, _check_devices, _check_files, _check_peers, _check_round)
    for check in checks:
        problem = check(options)
        if problem:
            parser.error(problem)
    if options.budget is None:
        options.budget = QUICK_BUDGET if options.quick else DEFAULT_BUDGET
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Fused neuron kernels against the plain-PyTorch reference.",
        epilog="With no selection, representative rows are measured, which takes a few minutes. "
        "Once an axis is given, the others are lif, float32, all six shapes, both modes. "
        "python -m benchmarks report writes docs/performance.md from the JSON of --peers.",
    )
    _add_selection(parser)
    _add_measuring(parser)
    _add_output(parser)
    _add_peers(parser)
    _add_round(parser)
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to measure")
    extent = group.add_mutually_exclusive_group()
    extent.add_argument("--full", action="store_true", help="neurons x dtypes x shapes x modes")
    extent.add_argument("--quick", action="store_true", help="a few small rows, under a minute")
    extent.add_argument(
        "--targets", action="store_true", help="only the rows that the targets speak of"
    )
    group.add_argument("--neurons", nargs="+", choices=cases.NEURONS)
    group.add_argument("--dtypes", nargs="+", choices=cases.DTYPES)
    group.add_argument("--shapes", nargs="+", type=_shape, metavar="T,B,N", help="as 16,32,1024")
    group.add_argument("--modes", nargs="+", choices=cases.MODES)
    group.add_argument(
        "--devices",
        nargs="+",
        choices=cases.DEVICES,
        help="default: cpu, and cuda where there is one",
    )
    group.add_argument(
        "--backends",
        nargs="+",
        choices=list(selection.BACKENDS),
        default=list(contenders.DEFAULT_BACKENDS),
        help=f"{selection.help_text()}; without torch there is no ratio "
        f"(default: {' '.join(contenders.DEFAULT_BACKENDS)})",
    )
    group.add_argument(
        "--surrogate",
        default=cases.DEFAULT_SURROGATE,
        choices=contenders.surrogate_names(),
        metavar="NAME",
        help=f"default {cases.DEFAULT_SURROGATE}; one of {', '.join(contenders.surrogate_names())}",
    )


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to measure")
    group.add_argument(
        "--check", action="store_true", help="compare results before timing; stop if they differ"
    )
    group.add_argument(
        "--keep-going",
        action="store_true",
        help="with --check: list the cases that differ at the end instead of stopping at the first",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="also torch.compile of the reference, with its compile time (minutes for long T)",
    )
    group.add_argument(
        "--compile-max-steps",
        type=_positive_integer,
        default=contenders.COMPILE_MAX_STEPS,
        metavar="T",
        help="compile no case of more steps than this (default %(default)s)",
    )
    group.add_argument(
        "--budget",
        type=_positive,
        metavar="SECONDS",
        help=f"timing per case (default {DEFAULT_BUDGET}, with --quick {QUICK_BUDGET})",
    )
    group.add_argument(
        "--time-limit", type=_positive, metavar="SECONDS", help="begin no case after this"
    )
    group.add_argument("--threads", type=_positive_integer, help="CPU threads (default: torch's)")
    group.add_argument(
        "--no-startup", action="store_true", help="leave out import time and cold build time"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=Path, metavar="FILE", help="everything found, as JSON")
    group.add_argument("--plot", type=Path, metavar="FILE", help="a picture; suffix gives format")


def _add_peers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("comparison with other libraries")
    names = [entry.peer.name for entry in catalogue.entries()]
    group.add_argument(
        "--peers",
        nargs="*",
        choices=names,
        metavar="NAME",
        help=f"measure ours beside theirs; all, or some of {', '.join(names)}",
    )
    group.add_argument(
        "--install-peers",
        nargs="*",
        choices=names,
        metavar="NAME",
        help="make the environments that --peers needs, and exit",
    )
    group.add_argument(
        "--fetch-peers",
        type=Path,
        metavar="FOLDER",
        help="download the peers' packages into a folder for --peer-wheels, and exit",
    )
    group.add_argument(
        "--peer-wheels",
        type=Path,
        metavar="FOLDER",
        help="install peers from the wheels and sdists of a folder, without network",
    )
    group.add_argument(
        "--peers-dir",
        type=Path,
        metavar="FOLDER",
        help="where the environments are (default: in the user's cache folder)",
    )
    letters = "; ".join(f"{each.letter}: {each.title}" for each in workloads.WORKLOADS)
    group.add_argument(
        "--workloads",
        nargs="+",
        choices=workloads.LETTERS,
        default=list(workloads.LETTERS),
        help=f"{letters} (default: all; on a CPU shapes that it does in about a second)",
    )
    group.add_argument(
        "--dataset-dir",
        type=Path,
        metavar="FOLDER",
        help="the files of MNIST, for e (default: data/ here, or shared/data/ beside the checkout)",
    )
    group.add_argument(
        "--peer-limit",
        type=_positive,
        metavar="SECONDS",
        help="leave out a peer whose first call takes longer (default 150, on a GPU 45)",
    )


def _add_round(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("GPU round")
    group.add_argument(
        "--gpu-round",
        action="store_true",
        help="build the CUDA kernels, run the gpu tests and the full benchmark in one go",
    )
    group.add_argument(
        "--device",
        choices=cases.DEVICES,
        help="with --gpu-round: cpu tries the round's own logic without a GPU (default cuda)",
    )
    group.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="with --gpu-round: where its JSON goes (default benchmarks/results/)",
    )
    group.add_argument(
        "--round-seconds",
        type=_positive,
        metavar="SECONDS",
        help="with --gpu-round: how long it may take (default 525)",
    )


def _shape(text: str) -> cases.Shape:
    try:
        return cases.parse_shape(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of seconds above 0")
    return value


def _positive_integer(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number above 0")
    return int(text)


def _check_selection(options: argparse.Namespace) -> str | None:
    given = [f"--{axis}" for axis in AXES if getattr(options, axis)]
    if options.targets and given:
        return f"--targets chooses its own rows, so it does not go with {', '.join(given)}"
    if options.keep_going and not options.check:
        return "--keep-going needs --check"
    return None


def _check_devices(options: argparse.Namespace) -> str | None:
    available = torch.cuda.is_available()
    if options.devices is None:
        options.devices = ["cpu", "cuda"] if available else ["cpu"]
    if "cuda" in options.devices and not available:
        return "--devices: got cuda, but PyTorch sees no CUDA device"
    return None


def _check_files(options: argparse.Namespace) -> str | None:
    for name in ("json", "plot"):
        path: Path | None = getattr(options, name)
        if path is None:
            continue
        if path.is_dir():
            return f"--{name}: got {path}, which is a folder, expected a file name"
        if not path.absolute().parent.is_dir():
            return f"--{name}: the folder {path.absolute().parent} does not exist"
    return _check_plot(options.plot)


def _check_plot(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        return "--plot needs matplotlib: pip install matplotlib"
    formats = sorted(FigureCanvasAgg.get_supported_filetypes())
    if path.suffix[1:].lower() not in formats:
        return f"--plot: got {path.name!r}, expected a suffix out of {', '.join(formats)}"
    return None


def _check_peers(options: argparse.Namespace) -> str | None:
    if options.peers is not None and (options.targets or options.full):
        return "--peers has its own cases, so it goes with neither --targets nor --full"
    if options.dataset_dir and workloads.mnist_folder(options.dataset_dir) is None:
        return f"--dataset-dir: the files of MNIST are not all in {options.dataset_dir}"
    needs = (options.install_peers is not None) or options.gpu_round
    if options.peer_wheels and not needs:
        return "--peer-wheels belongs to --install-peers or --gpu-round"
    if options.peer_wheels and not options.peer_wheels.is_dir():
        return f"--peer-wheels: the folder {options.peer_wheels} does not exist"
    return None


def _check_round(options: argparse.Namespace) -> str | None:
    for name in ("device", "results", "round_seconds"):
        if getattr(options, name) is not None and not options.gpu_round:
            return f"--{name.replace('_', '-')} belongs to --gpu-round"
    return None
