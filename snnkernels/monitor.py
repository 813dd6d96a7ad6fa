"""What the neurons of a network did during a run: potentials, spikes, firing rates."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from typing_extensions import Self

from ._core import checks
from .neuron.base import BaseNode

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Monitor", "Record"]

QUANTITIES = ("s", "v", "rate")
Selection = str | type[nn.Module] | Sequence["str | type[nn.Module]"] | None


@dataclass
class Record:
    """What one neuron module did, on the CPU.

    ``s`` and ``v`` are the outputs and the potentials after the reset, [T, B, ...] of the last
    steps that were kept; ``dropped`` counts the steps before them. ``rate`` is the mean output of
    each neuron, [...], over all steps and samples since the monitor was last cleared. What is not
    recorded is None.
    """

    kind: str
    steps: int = 0
    _kept: dict[str, deque[Tensor]] = field(default_factory=dict)
    _sum: Tensor | None = None
    _samples: int = 0

    @property
    def s(self) -> Tensor | None:
        return self._stacked("s")

    @property
    def v(self) -> Tensor | None:
        return self._stacked("v")

    @property
    def rate(self) -> Tensor | None:
        return None if self._sum is None else self._sum / self._samples

    @property
    def dropped(self) -> int:
        return self.steps - max((len(kept) for kept in self._kept.values()), default=self.steps)

    def _stacked(self, quantity: str) -> Tensor | None:
        kept = self._kept.get(quantity)
        if not kept:
            return None
        shapes = dict.fromkeys(tuple(step.shape) for step in kept)
        if len(shapes) > 1:
            raise ValueError(
                f"{quantity} was recorded in steps of different shapes, "
                f"{', '.join(map(str, shapes))}; clear() the monitor before another batch size"
            )
        return torch.stack(list(kept))

    def keep(self, quantity: str, sequence: Tensor, limit: int) -> None:
        """Add the steps of [T, B, ...]; those beyond the limit fall out at the other end."""
        kept = self._kept.setdefault(quantity, deque(maxlen=limit))
        kept.extend(step.to("cpu", copy=True) for step in sequence[-limit:].detach())

    def count(self, s_seq: Tensor) -> None:
        """Add [T, B, ...] to the rates."""
        total = s_seq.detach().sum((0, 1), dtype=torch.float64).cpu()
        self._sum = total if self._sum is None else self._sum + total
        self._samples += s_seq.shape[0] * s_seq.shape[1]


class Monitor:
    """Records what neurons do while it is enabled; it changes nothing that they compute.

    Args:
        net: the network; a neuron itself will do.
        quantities: what to record: "s", "v" and "rate", one or several.
        modules: which neurons: a module's name in ``net`` ("layers.*" matches several), a class, or
            a sequence of these; None for all.
        limit: how many of the last steps of "s" and "v" are kept for each module. Rates need one
            number for each neuron, however long the run.

    It is enabled in a ``with`` block, or from ``enable`` to ``disable``; what it has
    recorded stays until ``clear``. ``monitor["name"]`` is the ``Record`` of a module.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: a quantity is unknown, or no neuron is selected.

    Example:
        >>> net = nn.Sequential(layer.Linear(784, 10), neuron.LIFNode())
        >>> with Monitor(net, ["v", "rate"], neuron.LIFNode) as monitor:
        ...     _ = net(torch.rand(128, 784))
        >>> monitor["1"].v.shape
        torch.Size([1, 128, 10])
    """

    def __init__(
        self,
        net: nn.Module,
        quantities: str | Sequence[str] = QUANTITIES,
        modules: Selection = None,
        limit: int = 1000,
    ) -> None:
        if not isinstance(net, nn.Module):
            raise TypeError(f"net must be a torch.nn.Module, got {checks.describe(net)}")
        if isinstance(quantities, str):
            quantities = [quantities]
        self.quantities = tuple(checks.choice("quantities", q, QUANTITIES) for q in quantities)
        self.limit = int(checks.number("limit", limit, minimum=1, whole=True))
        self._nodes = _selected(net, modules)
        self._hooks: list[Any] = []
        self.clear()

    def __getitem__(self, name: str) -> Record:
        if name not in self._records:
            raise KeyError(f"{name!r} is not recorded; there are {', '.join(map(repr, self))}")
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __enter__(self) -> Self:
        self.enable()
        return self

    def __exit__(self, *_: object) -> None:
        self.disable()

    def clear(self) -> None:
        """Forget what was recorded."""
        self._records = {name: Record(type(node).__name__) for name, node in self._nodes.items()}

    def enable(self) -> None:
        """Record from now on."""
        if self._hooks:
            return
        for name, node in self._nodes.items():
            if "v" in self.quantities:
                _ask_for_v_seq(node)
            self._hooks.append(node.register_forward_hook(self._hook(name)))

    def disable(self) -> None:
        """Record no more; the neurons are as they were before."""
        for hook in self._hooks:
            hook.remove()
        if self._hooks and "v" in self.quantities:
            for node in self._nodes.values():
                _release_v_seq(node)
        self._hooks = []

    def table(self) -> Table:
        """The firing rates of all modules, for ``rich``; ``show`` prints it.

        Raises:
            ValueError: rates are not among the quantities.
        """
        if "rate" not in self.quantities:
            raise ValueError(f"quantities must contain 'rate' for a table, got {self.quantities}")
        from rich.table import Table

        table = Table(title="firing rates: spikes per neuron and step", title_justify="left")
        table.add_column("module")
        table.add_column("neuron")
        for heading in ("neurons", "mean", "highest", "silent"):
            table.add_column(heading, justify="right")
        for name, record in self._records.items():
            table.add_row(name or "(the net)", record.kind, *_rate_cells(record.rate))
        return table

    def show(self) -> None:
        """Print the table of firing rates."""
        from rich.console import Console

        Console().print(self.table())

    def _hook(self, name: str) -> Any:
        def record(node: BaseNode, _: Any, output: Tensor | tuple[Tensor, ...]) -> None:
            self._record(self._records[name], node, output)

        return record

    def _record(self, record: Record, node: BaseNode, output: Tensor | tuple[Tensor, ...]) -> None:
        out = output if isinstance(output, Tensor) else output[0]
        s_seq = out if node.step_mode == "m" else out.unsqueeze(0)
        record.steps += len(s_seq)
        if "s" in self.quantities:
            record.keep("s", s_seq, self.limit)
        if "v" in self.quantities:
            record.keep("v", _potentials(node), self.limit)
        if "rate" in self.quantities and s_seq.numel():
            record.count(s_seq)


_asked: WeakKeyDictionary[BaseNode, tuple[int, bool]] = WeakKeyDictionary()
"""How many monitors want a node's v_seq, and whether it was stored before the first."""


def _ask_for_v_seq(node: BaseNode) -> None:
    count, before = _asked.get(node, (0, node.store_v_seq))
    _asked[node] = count + 1, before
    node.store_v_seq = True


def _release_v_seq(node: BaseNode) -> None:
    count, before = _asked.pop(node)
    if count > 1:
        _asked[node] = count - 1, before
    elif not before:
        node.store_v_seq = False
        node.v_seq = None


def _potentials(node: BaseNode) -> Tensor:
    """The first state after each step of the last call, [T, B, ...]."""
    if node.step_mode == "m":
        assert node.v_seq is not None
        return node.v_seq
    v: Tensor = getattr(node, next(iter(node._memories())))
    return v.unsqueeze(0)


def _selected(net: nn.Module, modules: Selection) -> dict[str, BaseNode]:
    wanted = [modules] if isinstance(modules, (str, type)) else modules
    nodes = {name: module for name, module in net.named_modules() if isinstance(module, BaseNode)}
    found = {
        name: node
        for name, node in nodes.items()
        if wanted is None or any(_matches(name, node, each) for each in wanted)
    }
    if not found:
        listed = ", ".join(f"{name!r} ({type(node).__name__})" for name, node in nodes.items())
        raise ValueError(
            f"modules must select a neuron, got {modules!r}; there are {listed or 'none in net'}"
        )
    return found


def _matches(name: str, node: BaseNode, wanted: str | type[nn.Module]) -> bool:
    if isinstance(wanted, str):
        return fnmatchcase(name, wanted)
    if isinstance(wanted, type):
        return isinstance(node, wanted)
    raise TypeError(f"modules must be names or classes, got {checks.describe(wanted)}")


def _rate_cells(rate: Tensor | None) -> tuple[str, ...]:
    if rate is None or not rate.numel():
        return "", "", "", ""
    silent = (rate == 0).double().mean().item()
    return f"{rate.numel():,}", f"{rate.mean():.4f}", f"{rate.max():.4f}", f"{silent:.0%}"
