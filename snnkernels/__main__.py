"""``python -m snnkernels``: say what is here and what will be used, or build the kernels ahead."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from typing import TYPE_CHECKING

from . import __version__
from ._backends.nvrtc import Cupy, toolkit
from ._backends.selection import explain
from ._build import BuildError, cache, loader, plan, specification, toolchain
from ._build.archs import Arch, parse_archs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.command == "info":
        return info()
    return build(arguments.device, arguments.arch, force=arguments.force)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m snnkernels",
        description="Fused spiking-neuron kernels for PyTorch.",
        epilog=(
            "environment: SNNKERNELS_CACHE_DIR keeps built kernels elsewhere, SNNKERNELS_VERBOSE=1 "
            "shows the compilers' output, SNNKERNELS_CUDA_ARCH names GPU architectures, "
            "SNNKERNELS_BUILD_TIMEOUT bounds the wait for a compiler or for another process's "
            "build (seconds), CXX, CUDACXX and CUDA_HOME choose compilers, MAX_JOBS says how many "
            "run at once."
        ),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser(
        "info",
        help="versions, devices, compilers, the backends chosen and why, the cache; builds nothing",
    )
    builder = commands.add_parser(
        "build", help="build kernels into the cache now instead of at first use"
    )
    builder.add_argument(
        "--device",
        choices=[*specification.DEVICE_TYPES, "all"],
        default="all",
        help="what to build for; all (the default) skips CUDA where this torch or machine has none",
    )
    builder.add_argument(
        "--arch",
        type=_archs,
        metavar="LIST",
        help='GPU architectures, such as "9.0" or "8.0;9.0+PTX"; needs no GPU '
        "(default: SNNKERNELS_CUDA_ARCH, TORCH_CUDA_ARCH_LIST, else the GPUs of this machine)",
    )
    builder.add_argument("--force", action="store_true", help="build even if it is in the cache")
    return parser


def _archs(text: str) -> tuple[Arch, ...]:
    try:
        return parse_archs(text, name="--arch")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--arch: ")) from None


def build(device: str, archs: tuple[Arch, ...] | None, *, force: bool) -> int:
    """Build kernels into the cache, check that they load, and say where they are."""
    if archs is not None and device == "cpu":
        print("--arch names GPU architectures; --device is cpu", file=sys.stderr)
        return 2
    try:
        for device_type in specification.DEVICE_TYPES:
            if device not in (device_type, "all"):
                continue
            skip = _why_skip_cuda(archs) if (device, device_type) == ("all", "cuda") else ""
            if skip:
                print(f"CUDA: skipped, {skip}")
                continue
            _build_one(device_type, archs, force=force)
    except BuildError as error:
        print(f"snnkernels: {error}", file=sys.stderr)
        return 1
    return 0


def _why_skip_cuda(archs: tuple[Arch, ...] | None) -> str:
    import torch

    if torch.version.cuda is None:
        return "this torch has no CUDA"
    if archs is None and not plan.archs_from_environment() and not torch.cuda.is_available():
        return "no GPU here and no --arch"
    return ""


def _build_one(
    device_type: specification.DeviceType, archs: tuple[Arch, ...] | None, *, force: bool
) -> None:
    planned = plan.plan_build(device_type, archs=archs if device_type == "cuda" else None)
    entry, built = loader.ensure(planned, why="asked for", force=force)
    if device_type == "cuda":
        loader.load("cpu")
    loader.check_loads(entry, device_type)
    size = f"{entry.manifest.size / 2**20:.1f} MiB"
    state = f"built in {entry.manifest.seconds:.1f} s" if built else "already in the cache"
    print(f"{device_type.upper()}: {state}, {entry.manifest.target}, {size}: {entry.library}")


def info() -> int:
    """Print what is here and what will be used; build nothing."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    for title, table in (
        ("Versions", _versions()),
        ("Devices", _devices()),
        ("Compilers", _compilers()),
        ("Backends", _backends()),
        ("Kernels built", _cache()),
    ):
        _section(console, title, table)
    return 0


def _section(console: Console, title: str, table: Table) -> None:
    console.print(f"[bold]{title}[/bold]")
    console.print(table)
    console.print()


def _grid(*rows: tuple[str, ...]) -> Table:
    """Rows of a name and what is known of it, without lines."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=18)
    for _ in range(1, len(rows[0])):
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(Text(f"  {row[0]}", style="cyan"), *(Text(cell) for cell in row[1:]))
    return table


def _versions() -> Table:
    import torch

    names = ("numpy", "filelock", "platformdirs", "rich")
    return _grid(
        ("snnkernels", f"{__version__} in {specification.PACKAGE_DIR}"),
        ("Python", f"{platform.python_version()} at {sys.executable}"),
        ("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"),
        ("platform", platform.platform()),
        ("others", ", ".join(f"{name} {_version(name)}" for name in names)),
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _devices() -> Table:
    import torch

    threads = torch.get_num_threads()
    capability = torch.backends.cpu.get_cpu_capability()
    rows = [("CPU", f"{platform.machine()}, {capability}, {threads} threads of torch")]
    if not torch.cuda.is_available():
        rows.append(("CUDA", "torch sees no GPU"))
        return _grid(*rows)
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory = f"{gpu.total_memory / 2**30:.0f} GiB"
        rows.append((f"cuda:{index}", f"{gpu.name}, {gpu.major}.{gpu.minor}, {memory}"))
    return _grid(*rows)


def _compilers() -> Table:
    import torch

    rows = []
    used = ""
    for cxx in toolchain.cxx_probes():
        found = f"{cxx.version} ({cxx.program})"
        rows.append((cxx.origin, *_compiler(found, cxx.problem, used)))
        used = used or ("" if cxx.problem else cxx.origin)
    used = ""
    nvccs = toolchain.nvcc_probes(torch.version.cuda)
    for nvcc in nvccs:
        found = f"nvcc {nvcc.version} ({nvcc.path}, toolkit {nvcc.root})"
        problem = nvcc.problem or ("" if torch.version.cuda else "this torch has no CUDA")
        rows.append((f"nvcc, {nvcc.origin}", *_compiler(found, problem, used)))
        used = used or ("" if problem else nvcc.origin)
    if not nvccs:
        places = "not in $CUDA_HOME, on PATH, in the nvidia packages, in /usr/local/cuda"
        rows.append(("nvcc", "missing", places))
    rows.append(("NVRTC", *_nvrtc()))
    rows.append(("CuPy", *_cupy(used)))
    rows.append(("ninja", *_ninja()))
    return _grid(*rows)


def _nvrtc() -> tuple[str, str]:
    try:
        return _compiler(f"{toolkit.find_nvrtc(toolkit.cuda_major())}", "", "")
    except BuildError as error:
        return _compiler("", str(error), "")


def _cupy(used: str) -> tuple[str, str]:
    try:
        return _compiler(Cupy().outlook("cuda"), "", used)
    except BuildError as error:
        return _compiler("", str(error), used)


def _ninja() -> tuple[str, str]:
    try:
        return "used", toolchain.find_ninja()
    except BuildError as error:
        return "missing", str(error).splitlines()[0]


def _compiler(found: str, problem: str, used: str) -> tuple[str, str]:
    if problem:
        return "not used", problem.splitlines()[0]
    return ("spare", found) if used else ("used", found)


def _backends() -> Table:
    rows = [(device.upper(), choice.name, choice.reason) for device, choice in explain().items()]
    return _grid(*rows)


def _cache() -> Table:
    """The cache's entries, one row for those that the same tools made for the same target."""
    problem = cache.why_not_ours(cache.user_dir())
    rows = [("cache folder", f"{cache.user_dir()}{f' (refused: {problem})' if problem else ''}")]
    groups: dict[tuple[str, ...], list[cache.Manifest]] = {}
    for entry in cache.entries():
        made = entry.manifest
        key = made.device_type, made.target, made.torch, made.compilers, _flag_summary(made.flags)
        groups.setdefault(key, []).append(made)
    if not groups:
        rows.append(
            ("", "no kernels yet: they build at first use, or by python -m snnkernels build")
        )
    for (kind, target, torch, compilers, flags), members in groups.items():
        newest = datetime.fromtimestamp(members[0].created).strftime("%Y-%m-%d %H:%M")
        size = sum(made.size for made in members) / 2**20
        seconds = sum(made.seconds for made in members)
        number = f"{len(members)} builds, the newest of" if len(members) > 1 else "of"
        rows.append(
            (
                kind.upper(),
                f"{number} {newest}, took {seconds:.1f} s, {size:.2f} MiB\n"
                f"for {target}, torch {torch}, by {compilers}\n{flags}",
            )
        )
    return _grid(*rows)


def _flag_summary(flags: Sequence[str]) -> str:
    """The flags that tell builds apart: optimisation, warnings as errors, arithmetic."""
    words = {word for line in flags for word in line.split()}
    telling = ("-O", "-march", "-mcpu", "-Werror", "-fmad")
    return " ".join(sorted(word for word in words if word.startswith(telling)))


if __name__ == "__main__":
    sys.exit(main())
