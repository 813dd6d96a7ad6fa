"""What several commands' lines have in common, and how it is read."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.case import DEVICES, Shape


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device`` and ``--threads``."""
    devices = DEVICES if torch.cuda.is_available() else DEVICES[:1]
    parser.add_argument("--device", choices=devices, default=devices[-1], help="that PyTorch sees")
    parser.add_argument("--threads", type=positive_integer, help="CPU threads (default: torch's)")


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """How long to measure, and where to write it."""
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="SECONDS",
        help="timing of a case (default 2.5, with --quick 0.6)",
    )
    parser.add_argument(
        "--time-limit", type=positive, metavar="SECONDS", help="begin no case after this"
    )
    parser.add_argument("--json", type=file, metavar="FILE", help="everything found, as JSON")
    parser.add_argument("--plot", type=_picture, metavar="FILE", help="a picture; suffix: format")


def shape(text: str) -> Shape:
    """``16,32,1024``, with or without brackets."""
    try:
        found = tuple(int(part) for part in text.strip().strip("[]()").split(","))
    except ValueError:
        found = ()
    if len(found) < 2 or min(found) < 1:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected T,B,... as two or more positive integers separated by commas, "
            "such as 16,32,1024"
        )
    return found


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of seconds above 0")
    return value


def positive_integer(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number above 0")
    return int(text)


def folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"the folder {text} does not exist")
    return Path(text)


def file(text: str) -> Path:
    """A path that can be written when all is measured."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"got {path}, which is a folder, expected a file name")
    folder(str(path.absolute().parent))
    return path


def _picture(text: str) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path, formats = file(text), sorted(FigureCanvasAgg.get_supported_filetypes())
    if path.suffix[1:].lower() not in formats:
        raise argparse.ArgumentTypeError(
            f"got {path.name!r}, expected a suffix out of {', '.join(formats)}"
        )
    return path
