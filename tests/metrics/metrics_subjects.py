"""Small Subjects from a function and shapes, on the meta device or with data, without targets or modules."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.core.case import Case
from attnbench.core.record import Note, Reading
from attnbench.metrics.metric import Finding
from attnbench.metrics.subject import Subject

Make = Callable[[], nn.Module]


class Body(nn.Module):
    """A function as a module: the parts come first, then the inputs."""

    def __init__(self, function: Callable[..., Any], parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.parts, *inputs)


def subject_of(function: Callable[..., Any], *shapes: Sequence[int], parts: Sequence[Make] = (), where: str = "meta",
               mode: str = "fwd") -> Subject:  # fmt: skip
    """The Subject that runs `function(*parts, *inputs)` on inputs of those shapes."""
    torch.manual_seed(0)
    with torch.device(where):
        module = Body(function, [make() for make in parts])
        inputs = tuple(torch.randn(*shape, requires_grad=mode != "fwd") for shape in shapes)
    module.train(mode != "fwd")
    return Subject(Case("body", batch_size=2, tokens=8, mode=mode), module, inputs, where)


def values(findings: Iterator[Finding]) -> tuple[dict[str, Any], list[Note]]:
    """What an instrument found: readings by name, and its notes."""
    found = list(findings)
    readings = {each.name: each.value for each in found if isinstance(each, Reading)}
    return readings, [each for each in found if isinstance(each, Note)]


class FakeClock:
    """A clock that moves only when somebody takes time: `block(steps)` takes the next of the canned times."""

    def __init__(self, *ms: float, after: float | None = None) -> None:
        self.now = 1000.0
        self.asked: list[int] = []
        self._ms = chain(ms, repeat(ms[-1] if after is None else after))

    def __call__(self) -> float:
        return self.now

    def block(self, steps: int) -> float:
        ms = next(self._ms)
        self.asked.append(steps)
        self.now += ms * steps / 1000
        return ms
