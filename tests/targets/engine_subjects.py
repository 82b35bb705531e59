"""Small Subjects with weights and data for the engines, and a clock that others move."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.core.case import Case
from attnbench.core.record import Note, Reading
from attnbench.metrics.metric import Finding
from attnbench.metrics.subject import Subject

MODES = ("fwd", "fwd_bwd", "bwd", "train")


class Plain(nn.Module):
    """y = tanh(x W) + x."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, dim * dim).reshape(dim, dim))

    def forward(self, x: Tensor) -> Any:
        return torch.tanh(x @ self.weight) + x


class Clock:
    """Seconds that pass only when somebody lets them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


def subject_on(module: nn.Module, mode: str = "fwd", dtype: str = "fp32", shape: tuple[int, ...] = (2, 4, 8),
               device: str = "cpu") -> Subject:  # fmt: skip
    """The Subject of a module with one input, as the builder would make it."""
    torch.manual_seed(0)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    module = module.to(device, kind)
    x = torch.randn(*shape, device=device).to(kind).requires_grad_(mode != "fwd")
    module.train(mode != "fwd")
    optimizer = None
    if mode == "train":
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.0, capturable=device != "cpu")
    return Subject(Case("it", mode=mode, dtype=dtype, device=device, dim=8), module, (x,), device, optimizer=optimizer)


def found(findings: Iterator[Finding]) -> tuple[dict[str, Any], dict[str, str]]:
    """Readings by name, and notes by kind."""
    each = list(findings)
    readings = {one.name: one.value for one in each if isinstance(one, Reading)}
    return readings, {one.kind: one.text for one in each if isinstance(one, Note)}
