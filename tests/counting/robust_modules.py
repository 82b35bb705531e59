"""Modules as people really write them, each a trap for a counter; `MACS` holds what a batch costs, by hand.

B samples of N tokens of C channels. A projection costs N C², each of the two products of attention N² C.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

MACS: dict[str, str] = {}


def costs(formula: str) -> Any:
    """Write down the MACs of the batch beside the class."""

    def note(made: Any) -> Any:
        MACS[made.__name__] = formula
        return made

    return note


def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """N² C for the scores, N² C for mixing."""
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class Attention(nn.Module):
    """3 N C² + 2 N² C, and it hands on to the classes below."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        return products(*self.qkv(x).chunk(3, -1))


ATTENTION = "B * (3*N*C**2 + 2*N**2*C)"


@costs("B*N*C**2")
class BranchOnData(nn.Module):
    """Either branch is one projection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) if x.mean() > 0 else self.right(x)


@costs("B*N*C**2")
class TokensChosenByValue(nn.Module):
    """Only tokens with a finite norm are projected, which are all, but only their values tell."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        chosen = x.norm(dim=-1) < 1e9
        out = torch.zeros_like(x)
        out[chosen] = self.proj(x[chosen])
        return out


@costs(f"{ATTENTION} + B*N*C**2")
class BuffersInForward(nn.Module):
    """A mask, an encoding and a random matrix are made in the forward, without naming a device."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens, dim = x.shape[-2:]
        q, k, v = self.qkv(x + torch.arange(tokens)[:, None]).chunk(3, -1)
        scores = (q @ k.mT).masked_fill(torch.ones(tokens, tokens).triu(1).bool(), float("-inf"))
        return scores.softmax(-1) @ v @ torch.randn(dim, dim)


@costs("B*2*N*C*2*C")
class TiedWeights(nn.Module):
    """C -> 2 C and back through one matrix."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, 2 * dim, bias=False), nn.Linear(2 * dim, dim, bias=False)
        self.down.weight = nn.Parameter(self.up.weight.T)
        self.alias = self.up

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.alias(x).relu())


@costs(f"2 * ({ATTENTION})")
class CalledTwice(nn.Module):
    """The same module under two names, once by `forward` itself, past all hooks."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = Attention(dim)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second.forward(self.first(x))


@costs(ATTENTION)
class FunctionalWeights(nn.Module):
    """The module is called with other weights than its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = Attention(dim)

    def forward(self, x: Tensor) -> Any:
        weights = {name: 2 * weight for name, weight in self.inner.named_parameters()}
        return torch.func.functional_call(self.inner, weights, (x,))


@costs(ATTENTION)
class Checkpointed(nn.Module):
    """The forward is one attention, however often the backward does it again."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = Attention(dim)

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=False)


@costs(ATTENTION)
class InAutocast(nn.Module):
    """The same products in bf16."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = Attention(dim)

    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(x).float()


@costs("B * (N*C**2 + 2*N**2*C)")
class ScriptedFunction(nn.Module):
    """A projection; the products are a scripted function."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj, self.core = nn.Linear(dim, dim), torch.jit.script(products)

    def forward(self, x: Tensor) -> Any:
        y = self.proj(x)
        return self.core(y, y, y)


@costs("B*2*N*C**2")
class ScriptedSubmodule(nn.Module):
    """Two projections inside a scripted Sequential."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.core = torch.jit.script(nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)))

    def forward(self, x: Tensor) -> Any:
        return self.core(x)


@costs(ATTENTION)
class CompiledSubmodule(nn.Module):
    """torch.compile with the back end that needs no compiler."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.core = torch.compile(Attention(dim), backend="eager")

    def forward(self, x: Tensor) -> Any:
        return self.core(x)


@costs("B * (N*C**2 + 2*N**2*C)")
class InPlaceAndOut(nn.Module):
    """addmm_, bmm(out=), softmax(out=), baddbmm_."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        y = torch.zeros(batch * tokens, dim, device=x.device)
        y = y.addmm_(x.reshape(-1, dim).detach(), self.weight.detach()).view_as(x)
        scores = torch.empty(batch, tokens, tokens, device=x.device)
        torch.bmm(y, y.mT, out=scores)
        torch.softmax(scores, -1, out=scores)
        return torch.zeros_like(y).baddbmm_(scores, y)


@costs("B * (N*4*C*(C + C) + N*3*C*(C + C))")
class Recurrent(nn.Module):
    """Four gates of C units, then three: each sees the input and the state."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(dim, dim, batch_first=True), nn.GRU(dim, dim, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.lstm(x)[0])[0]


@costs("B * (2*N**2*C + N*C**2)")
class Vmapped(nn.Module):
    """vmap over samples of attention, of vmap over tokens of a matrix times a vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim))

    def forward(self, x: Tensor) -> Any:
        def sample(x: Tensor) -> Any:
            y = torch.vmap(lambda token: torch.mv(self.weight, token))(x)
            return products(y, y, y)

        return torch.vmap(sample)(x)


class Products(torch.autograd.Function):
    """A Function with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return products(x, x, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@costs("B*2*N**2*C")
class OwnFunction(nn.Module):
    """The two products inside an autograd.Function."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Any:
        return Products.apply(x)


@costs("B*N*C**2 + C**2 + C")
class SpectralNorm(nn.Module):
    """N C² of projection; once for the batch, u^T W v is a matrix times a vector, C², and a dot product, C."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Any:
        return self.proj(x)


@costs("B * (4*N*C**2 + 2*N*(N + 2)*C)")
class ExtraKeys(nn.Module):
    """A learned key and a zero key besides the N: N (N + 2) pairs. The mask counts dense."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.core = nn.MultiheadAttention(dim, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        tokens = x.shape[1]
        mask = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
        return self.core(x, x, x, attn_mask=mask)[0]


@costs("B * (2*(4*N*C**2 + 2*N**2*C + 2*N*C*2*C))")
class CopiedLayers(nn.Module):
    """nn.TransformerEncoder copies its layer, which is deep in the hands of Python's `copy`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.core = nn.TransformerEncoder(nn.TransformerEncoderLayer(dim, 2, 2 * dim, batch_first=True), 2)

    def forward(self, x: Tensor) -> Any:
        return self.core(x)


@costs("B * (N*C + N**2*C)")
class ProductsInDisguise(nn.Module):
    """vecdot over channels: N C; cosine similarity of all pairs: N² C."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        own = torch.linalg.vecdot(x, x.flip(1))
        pairs = (F.normalize(x, dim=-1)[:, :, None] * x.flip(1)[:, None]).sum(-1)
        return x * (own + pairs.amax(-1))[..., None]


@costs("0")
class FourierFilter(nn.Module):
    """GFNet: no contraction, a product of complex numbers for each frequency; the transforms have their own column."""

    def __init__(self, dim: int, seq_len: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(seq_len // 2 + 1, dim, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, dim=1) * self.weight, n=x.shape[1], dim=1)


@costs(ATTENTION)
class InferenceMode(nn.Module):
    """The forward switches gradients off in its own way."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = Attention(dim)

    def forward(self, x: Tensor) -> Any:
        with torch.inference_mode():
            return self.inner(x)


@costs("B*3*N*C**2")
class GradientInForward(nn.Module):
    """Test-time training: x W; the gradient of a loss to W, x^T dy; and x times the W that was moved."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            weight = self.weight.detach().requires_grad_()
            loss = (x.detach() @ weight - x.detach()).square().sum()
            (gradient,) = torch.autograd.grad(loss, weight)
        return x @ (self.weight - 0.1 * gradient)


@costs("B*N*C**2")
class DataInConstructor(nn.Module):
    """An orthogonal matrix by QR, and a number read out of it: nothing that tensors without data can do."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = float(torch.rand(1).item())
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(dim, dim))[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x @ self.weight)


@costs("B * (4*N*C**2 + 4*2*N**2*C)")
class ComplexNumbers(nn.Module):
    """One complex matrix at N complex tokens, 4 N C²; two products of complex numbers, 4 N² C each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.complex(x, x.flip(-1)) @ self.weight
        scores = z @ z.mH
        return torch.view_as_real(scores @ z).sum(-1)


@costs("B*N*C**2")
class SoftmaxOut(nn.Module):
    """A softmax into a given tensor is no product."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj(x)
        return torch.softmax(y, -1, out=torch.empty_like(y))
