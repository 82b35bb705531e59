"""Ten modules of 0.3 to 20 ms that repeat a unit of work LAYERS times: two more layers of a hundred are 2 % more work.

The gate's benchmark copies this file into a scratch repository and changes that number from commit to commit. Each unit
reads the same input, so that no figure grows, dies out, or becomes denormal.
"""

import torch
from torch import Tensor, nn

LAYERS = 100
UNUSED = 0  # what the commit changes that makes nothing slower


class Repeated(nn.Module):
    """A unit of work on x (B, N, C), LAYERS times; the sum of all, scaled."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim) / dim**0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(LAYERS):
            y = self.unit(x)
        return y

    def unit(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Product(Repeated):
    def unit(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Softmax(Repeated):
    def unit(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


class Gate(Repeated):
    def unit(self, x: Tensor) -> Tensor:
        return x * x.mean(1, keepdim=True).sigmoid()


class Attention(Repeated):
    def unit(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(-1, -2)).softmax(-1) @ x


class Linear(Repeated):
    def unit(self, x: Tensor) -> Tensor:
        query = torch.nn.functional.elu(x @ self.weight) + 1
        return query @ (query.transpose(-1, -2) @ x)


class Feedforward(Repeated):
    def unit(self, x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(torch.nn.functional.layer_norm(x, x.shape[-1:]) @ self.weight) @ self.weight
