"""Modules of which no counter can know all: what must come out is the count by hand, or a doubt that is said aloud."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from robust_modules import costs, products
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention


class Projection(nn.Module):
    """N C², so that there is always something that can be counted."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)


@costs("B * (N*C**2 + 2*N**2*C)")
class Flex(Projection):
    """flex_attention without a mask."""

    def forward(self, x: Tensor) -> Any:
        y = self.proj(x)[:, None]
        return flex_attention(y, y, y)[:, 0]


@torch.library.custom_op("attnbench_open::products", mutates_args=())
def opaque(x: Tensor) -> Tensor:
    return products(x, x, x)


@opaque.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@costs("B * (N*C**2 + 2*N**2*C)")
class CustomOperator(Projection):
    """The products behind an operator of torch.library."""

    def forward(self, x: Tensor) -> Any:
        return opaque(self.proj(x))


@costs("B * (N*C**2 + 2*N**2*C)")
class ByNumpy(Projection):
    """The products are numpy's."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj(x).detach().numpy()
        return torch.from_numpy((y @ y.swapaxes(-1, -2)) @ y)


@costs("B * (N*C**2 + N*C)")
class SparseProduct(Projection):
    """A diagonal matrix, N of N² numbers, kept sparse: N C products of the N² C that a dense one takes."""

    def forward(self, x: Tensor) -> Tensor:
        index = torch.arange(x.shape[1], device=x.device)
        ones = torch.ones(x.shape[1], device=x.device)
        diagonal = torch.sparse_coo_tensor(torch.stack([index, index]), ones, (x.shape[1], x.shape[1]))
        return torch.stack([torch.sparse.mm(diagonal, sample) for sample in self.proj(x)])


@costs("B * (N*C**2 + N**2*C)")
class Distances(Projection):
    """Gaussian kernels from all pairs' distances: their products are inside torch.cdist."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj(x)
        return y * torch.cdist(y, y).neg().exp().sum(-1, keepdim=True)


@costs("B*N*C**2 + 2*C**3")
class MatrixPower(Projection):
    """W³ is two products of C x C matrices, once for the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.linalg.matrix_power(self.proj.weight, 3)


@costs("B * (N*C**2 + N*C**2)")
class Branches(Projection):
    """torch.cond: one of two projections more."""

    def forward(self, x: Tensor) -> Any:
        y = self.proj(x)
        return torch.cond(y.mean() > 0, lambda y: y @ self.proj.weight, lambda y: (y @ self.proj.weight).neg(), (y,))


@costs("B * 3*N*C**2")
class InThreads(nn.Module):
    """Three projections at once, each in a thread: what watches torch watches one thread."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(dim, dim) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        with ThreadPoolExecutor() as pool:
            return sum(pool.map(lambda part: part(x), self.parts))


POOL = ThreadPoolExecutor(1)


@costs("B * 2*N*C**2")
class InAThreadThatIsThere(nn.Module):
    """One of two projections in a thread that was started long before."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.here, self.there = nn.Linear(dim, dim), nn.Linear(dim, dim)
        POOL.submit(int).result()

    def forward(self, x: Tensor) -> Tensor:
        return POOL.submit(self.there, self.here(x)).result()
