"""What a case counted by hand is: a module, its inputs, and its multiply-accumulates as arithmetic of the sizes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.core.case import Case
from attnbench.metrics.subject import Subject

__all__ = ["CASES", "HEADS", "MAP", "SIZES", "TOKENS", "HandCase", "Sizes", "attend", "case", "merge", "split"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that the formulas speak of; no two that stand beside each other are equal by accident."""

    B: int = 2  # batch
    H: int = 16  # rows of the map
    W: int = 16  # columns
    C: int = 64  # channels
    h: int = 4  # heads
    g: int = 2  # heads of keys and values, where they are grouped
    L: int = 80  # tokens of the other sequence
    k: int = 48  # tokens after a projection
    m: int = 24  # random features, landmarks, channels of a bottleneck
    a: int = 40  # hidden units of additive scores
    r: int = 8  # reduction
    w: int = 4  # side of a window
    f: int = 160  # hidden units of a feed-forward
    S: int = 56  # slots of an external memory

    @property
    def N(self) -> int:  # noqa: N802 - the field's own name
        return self.H * self.W

    @property
    def d(self) -> int:
        return self.C // self.h

    def value(self, formula: str, **more: int) -> int:
        """The formula's integer; `H*W` is `N` and `C//h` is `d`."""
        names = asdict(self) | {"N": self.N, "d": self.d} | more
        value = eval(formula, {"__builtins__": {}, "sum": sum}, names)
        assert isinstance(value, int), formula
        return value

    def at(self, side: int) -> "Sizes":
        """One sample of a square map with that side."""
        return replace(self, B=1, H=side, W=side)


SIZES = Sizes()

MAP = ("B", "C", "H", "W")
TOKENS = ("B", "N", "C")
HEADS = ("B", "h", "N", "d")


@dataclass(frozen=True, slots=True)
class HandCase:
    """One module, in one way of writing it, with what was derived on paper.

    `macs`, `params`, `backward`, `recomputed`, `useful` and `fft` are arithmetic of the sizes; `macs` may be used by
    the others. `backward` is None where nobody derived it. `flagged` says why a counter may leave the case open.
    `quadratic` is the claim that its MACs grow with N².
    """

    kind: str
    writing: str
    make: Callable[[Sizes], nn.Module]
    inputs: tuple[tuple[str, ...], ...]
    macs: str
    params: str
    backward: str | None = None
    recomputed: str = "0"
    useful: str = "macs"
    fft: str = "0"
    quadratic: bool = False
    train: bool = False
    flagged: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.writing}" if self.writing else self.kind

    def value(self, field: str, sizes: Sizes = SIZES) -> int:
        """One of the derived figures as an integer."""
        macs = sizes.value(self.macs)
        return macs if field == "macs" else sizes.value(getattr(self, field), macs=macs)

    def shapes(self, sizes: Sizes = SIZES) -> list[tuple[int, ...]]:
        return [tuple(sizes.value(size) for size in shape) for shape in self.inputs]

    def build(self, sizes: Sizes = SIZES, where: str = "cpu", grad: bool = False) -> tuple[nn.Module, list[Tensor]]:
        """The module in the mode of the case, and its inputs, on a device."""
        torch.manual_seed(0)
        with torch.device(where):
            module = self.make(sizes)
            inputs = [torch.randn(shape, requires_grad=grad) for shape in self.shapes(sizes)]
        return module.train(self.train or grad), inputs

    def subject(self, where: str = "meta", mode: str = "fwd", sizes: Sizes = SIZES) -> Subject:
        """What the instruments read; `fake` is the CPU inside the caller's fake mode."""
        module, inputs = self.build(sizes, "cpu" if where == "fake" else where, grad=mode == "fwd_bwd")
        question = Case(self.name, batch_size=sizes.B, tokens=sizes.N, mode=mode)
        return Subject(question, module, tuple(inputs), where)


CASES: list[HandCase] = []

Make = Callable[[Sizes], nn.Module]


def case(kind: str, writing: str, *inputs: Sequence[str], macs: str, params: str = "0",
         **more: Any) -> Callable[[Any], Any]:  # fmt: skip
    """Put a module class, or a function that makes one from the sizes, among the cases."""

    def register(make: Any) -> Any:
        assert make.__doc__, f"{kind}, {writing}: a case needs its derivation"
        CASES.append(HandCase(kind, writing, make, tuple(map(tuple, inputs)), macs, params, **more))
        return make

    return register


def split(x: Tensor, heads: int) -> Tensor:
    """(B, N, C) -> (B, h, N, C/h)"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """(B, h, N, d) -> (B, N, h*d)"""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over the last two axes."""
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v
