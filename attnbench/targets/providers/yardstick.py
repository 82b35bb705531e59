"""Yardsticks: fixed attentions that a stored baseline holds latencies against, `yardstick:softmax-1`.

The code below a version's name must never change, nor what it calls in torch: ratios that are stored in the files of
others were taken against it. Any edit of a class, even one that makes it faster or prettier, needs another class under
another version, with the old one left in place. A test holds the digest of each.
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from attnbench.targets.providers import unknown
from attnbench.targets.sources import Target

__all__ = ["YARDSTICKS", "target"]


class Softmax1(nn.Module):
    """One head of quadratic attention (Vaswani et al. 2017) whose map of weights is written out: memory moves.

    Shapes: (B, N, C) -> (B, N, C).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.scale = dim**-0.5

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query_key_value(x).chunk(3, dim=-1)
        weights = torch.softmax(torch.matmul(query * self.scale, key.transpose(-2, -1)), dim=-1)
        return self.out(torch.matmul(weights, value))  # type: ignore[no-any-return]


class Linear1(nn.Module):
    """Linear attention (Katharopoulos et al. 2020, with a ReLU for the feature map) between wide layers: products.

    Shapes: (B, N, C) -> (B, N, C).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.widen = nn.Linear(dim, 4 * dim, bias=False)
        self.query_key_value = nn.Linear(4 * dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query_key_value(self.widen(x)).chunk(3, dim=-1)
        state = torch.matmul(torch.relu(key).transpose(-2, -1), value / x.shape[-2])
        return self.out(torch.matmul(torch.relu(query), state))  # type: ignore[no-any-return]


YARDSTICKS: Final[Mapping[str, Callable[..., nn.Module]]] = {"softmax-1": Softmax1, "linear-1": Linear1}


def target(name: str) -> Target:
    """The yardstick of that name and version.

    Raises:
        UsageError: there is none.
    """
    if name not in YARDSTICKS:
        raise unknown("yardstick", name, list(YARDSTICKS))
    return Target(f"yardstick:{name}", YARDSTICKS[name], layout="bnc")
