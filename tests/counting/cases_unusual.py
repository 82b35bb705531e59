"""What counters stumble over besides attention: shared, frozen, repeated, recomputed, scripted and cast parts."""

import torch
from hand_case import TOKENS, Sizes, attend, case, merge, split
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

MHA = "B * (4*N*C**2 + 2*N**2*C)"


class Attention(nn.Module):
    """Multi-head self-attention of one class, which the cases below put into unusual places."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.qkv, self.out = nn.Linear(s.C, 3 * s.C, bias=False), nn.Linear(s.C, s.C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(each, self.h) for each in self.qkv(x).chunk(3, -1))
        return self.out(merge(attend(q, k, v)))


@case("shared weights", "one module called twice", TOKENS, macs=f"2 * {MHA}", params="4*C**2", backward="2 * macs",
      quadratic=True)  # fmt: skip
class CalledTwice(nn.Module):
    """Two passes through one attention: 2 (4 N C² + 2 N² C), with the parameters of one.

    Backward: each pass has its own gradients, those of the weights are added.
    """

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.attention = Attention(s)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x + self.attention(x))


@case("shared weights", "tied output and input", TOKENS, macs="B * 2*N*C*f", params="C*f", backward="2 * macs")
class Tied(nn.Module):
    """C -> f with a matrix and f -> C with the same one transposed: 2 N C f, and C f parameters."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.into = nn.Linear(s.C, s.f, bias=False)
        self.alias = self.into

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.alias(x).relu(), self.into.weight.T)


@case("shared weights", "values are keys", TOKENS, macs="B * (3*N*C**2 + 2*N**2*C)", params="3*C**2",
      backward="2 * macs", quadratic=True)  # fmt: skip
class SharedKeyValue(nn.Module):
    """One projection serves as key and value: 3 N C²; the two products: 2 N² C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.q, self.kv, self.out = (nn.Linear(s.C, s.C, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        kv = split(self.kv(x), self.h)
        return self.out(merge(attend(split(self.q(x), self.h), kv, kv)))


@case("frozen weights", "a frozen projection and a learned one", TOKENS, macs="B * N*(C*f + f*C)", params="2*C*f",
      backward="B * (N*C*f + 2*N*f*C)")  # fmt: skip
class Frozen(nn.Module):
    """C -> f, f -> C: 2 N C f. Backward: two gradients of the learned one, but only the input's of the frozen one."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.frozen, self.learned = nn.Linear(s.C, s.f, bias=False), nn.Linear(s.f, s.C, bias=False)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.learned(self.frozen(x).relu())


@case("frozen weights", "a branch cut off by detach", TOKENS, macs="B * (2*N*C*f + N*f*C)", params="3*C*f",
      backward="B * (N*C*f + 2*N*f*C)")  # fmt: skip
class Detached(nn.Module):
    """Two C -> f and one f -> C: 3 N C f.

    Backward: two gradients of the last; of the first only its weight's, as its input is cut off; none of the branch
    that is cut off itself.
    """

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.kept, self.cut = nn.Linear(s.C, s.f, bias=False), nn.Linear(s.C, s.f, bias=False)
        self.last = nn.Linear(s.f, s.C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.kept(x.detach()) + self.cut(x).detach())


@case("checkpointed block", "torch.utils.checkpoint", TOKENS, macs=MHA, params="4*C**2", backward="2 * macs",
      recomputed="macs - B*N*C**2", quadratic=True)  # fmt: skip
class Checkpointed(nn.Module):
    """One attention, 4 N C² + 2 N² C. Backward: two gradients for each product; before them the forward once more,
    up to the input of the last projection: its output, N C², nobody needs again.
    """

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.attention = Attention(s)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.attention, x, use_reentrant=False)


class Scriptable(nn.Module):
    """Attention in the subset of Python that TorchScript takes."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(torch.matmul(qkv[0], qkv[1].transpose(-2, -1)), -1)
        return self.out(torch.matmul(weights, qkv[2]).transpose(1, 2).reshape(batch, tokens, dim))


@case("scripted submodule", "torch.jit.script", TOKENS, macs=MHA, params="4*(C**2 + C)", quadratic=True)
def scripted(s: Sizes) -> nn.Module:
    """4 N C² + 2 N² C, compiled by TorchScript, where hooks and patches of functions do not reach."""
    return nn.Sequential(torch.jit.script(Scriptable(s.C, s.h)))


@case("autocast", "bf16 inside", TOKENS, macs=MHA, params="4*C**2", quadratic=True)
class Autocast(nn.Module):
    """Another type, the same products: 4 N C² of projections, 2 N² C of attention."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.attention = Attention(s)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.attention(x)


@case("complex weights", "Linear of complex numbers", TOKENS, macs="B * (4*N*C**2 + 4*N**2*C)", params="C**2",
      quadratic=True)  # fmt: skip
class ComplexLinear(nn.Module):
    """A complex C x C matrix at N complex tokens: 4 N C²; one complex product of N x N over C numbers: 4 N² C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(s.C, s.C, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.complex(x, x) @ self.weight
        return torch.einsum("bnc,bmc->bnm", z, z.conj()).abs()
