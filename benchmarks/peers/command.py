"""``peers`` and ``install``: the commands for other libraries."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from benchmarks import arguments, environment, startup, tables, workloads
from benchmarks.case import Case
from benchmarks.measure import Row, Tell
from benchmarks.peers import install as packages
from benchmarks.peers.measure import PeerMeasurement, Pool
from benchmarks.peers.spec import Peer, peers
from benchmarks.run import attempt, budget_of, finish, new_results, run_cases, warn_if_busy
from snnkernels._backends.selection import resolve

CORES_PER_INSTALL = 4
FIRST_CALL_SECONDS = {"cpu": 150.0, "cuda": 45.0}


def chosen(names: Sequence[str], device: str) -> list[Peer]:
    """The named peers, ours first; all that run on a device if none is named."""
    if names:
        ours, *others = peers()
        return [ours, *(peer for peer in others if peer.name in names)]
    return [peer for peer in peers() if device in peer.devices]


def _add_names(parser: argparse.ArgumentParser) -> None:
    names = [peer.name for peer in peers()]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(names)}", type=_name
    )


def _name(text: str) -> str:
    names = [peer.name for peer in peers()]
    if text not in names:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected one of {', '.join(names)}")
    return text


def add_install(parser: argparse.ArgumentParser) -> None:
    _add_names(parser)
    arguments.add_device(parser)


def install(options: argparse.Namespace, console: Console) -> int:
    """Install the packages that are asked for, some at once; returns 1 if one cannot be had."""
    wanted = [p for p in chosen(options.names, options.device) if p.requirements]

    def one(peer: Peer) -> bool:
        start = time.monotonic()
        try:
            packages.install(peer)
        except packages.InstallFailed as error:
            console.print(f"{peer.title}: [red]left out:[/] {escape(str(error))}", soft_wrap=True)
            return False
        console.print(f"{peer.title}: installed ({time.monotonic() - start:.0f} s)")
        return True

    at_once = max(1, (os.cpu_count() or 1) // CORES_PER_INSTALL)
    with console.status("installing"), ThreadPoolExecutor(at_once) as threads:
        return 0 if all(list(threads.map(one, wanted))) else 1


def add(parser: argparse.ArgumentParser) -> None:
    _add_names(parser)
    letters = "; ".join(f"{each.letter}: {each.title}" for each in workloads.WORKLOADS.values())
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=workloads.LETTERS,
        default=list(workloads.LETTERS),
        help=f"{letters} (default: all; on a CPU shapes that it does in about a second)",
    )
    parser.add_argument("--quick", action="store_true", help="neurons of two shapes alone")
    parser.add_argument(
        "--dataset-dir",
        type=arguments.folder,
        default=environment.ROOT / "data",
        metavar="FOLDER",
        help="with MNIST/raw/, for e (default: data/ here)",
    )
    parser.add_argument(
        "--limit",
        type=arguments.positive,
        metavar="SECONDS",
        help="leave out a peer whose first call takes longer (default 150, on a GPU 45)",
    )
    arguments.add_device(parser)
    arguments.add_measuring(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, print, write; returns the exit code."""
    warn_if_busy(console)
    who = chosen(options.names, options.device)
    limit = options.limit or FIRST_CALL_SECONDS[options.device]
    results = new_results(options)
    results.settings["dataset_dir"] = None
    resolve("native", options.device)  # a build would count as our first call
    with (
        tempfile.TemporaryDirectory(prefix="snnkernels-logs-") as logs,
        Pool(torch.get_num_threads(), Path(logs)) as pool,
    ):

        def measure(case: Case, tell: Tell) -> list[Row]:
            rows = PeerMeasurement(case, who, pool, budget_of(options), limit, tell).run()
            results.contenders = pool.about
            return rows

        cases = workloads.selected(
            options.workloads, options.device, options.dataset_dir, quick=options.quick
        )
        code = run_cases(results, cases, measure, options, console)
    if not (code or options.quick or options.time_limit):
        build = partial(startup.measure_cold_build, options.device)
        code = attempt(console, lambda: results.startup.append(build()))
    if not results.startup:
        results.not_measured.append(startup.build_name(options.device))
    finish(results, options, console)
    for title, frame in tables.long_tables(results):
        tables.show(console, title, frame)
    return code
