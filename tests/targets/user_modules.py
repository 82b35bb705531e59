"""Attentions as users write them: with tuples, keyword-only arguments, baked-in resolutions and other habits."""

import torch
from faults import FAULTS
from torch import Tensor, nn


class PlainTokens(nn.Module):
    """Tokens in, and a tuple with the attention map out."""

    def __init__(self, dim: int, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2)).softmax(-1)
        return self.out((attention @ v).transpose(1, 2).reshape(batch, tokens, dim)), attention


class BakedResolution(nn.Module):
    """Keyword-only arguments, the map's sides among them."""

    def __init__(self, *, embed_dim: int, input_resolution: tuple[int, int]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(input_resolution[0] * input_resolution[1], embed_dim))
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x) + self.bias


class OneSide(nn.Module):
    """A square map's side as one integer."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, size, size))
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.bias


class ChannelsLast(nn.Module):
    """Four axes, the channels last."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        _, _, _, _ = x.shape
        return self.proj(x.mean((1, 2), keepdim=True)) * x


class TokensAndSides(nn.Module):
    """Tokens with the sides of their map beside them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, H: int, W: int) -> Tensor:
        batch, _, dim = x.shape
        return self.conv(x.transpose(1, 2).view(batch, dim, H, W)).flatten(2).transpose(1, 2)


class QueryKeyValue(nn.Module):
    """Three inputs."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.core = nn.MultiheadAttention(d_model, n_heads, batch_first=True)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return self.core(query, key, value)


class NeedsMore(nn.Module):
    """An argument that no shape tells."""

    def __init__(
        self, dim: int, landmarks: int, flag: bool = False, name: str = "a", scale: float | None = 1.0
    ) -> None:
        super().__init__()
        self.settings = (landmarks, flag, name, scale)
        self.proj = nn.Linear(dim, landmarks)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class LooksAtValues(nn.Module):
    """Cannot run without data."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x) if x.mean().item() < 100 else x


class ConstantOfItsOwn(nn.Module):
    """Makes a tensor in the forward without naming a device."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x) + torch.arange(x.shape[1])[:, None]


class ReadsARate(nn.Module):
    """Reads its drop rate off a tensor, as many networks do; a weight that is shared, and a buffer of each kind."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rate = torch.linspace(0, 0.2, 3, device="cpu")[1].item()
        self.inwards, self.outwards = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.outwards.weight = self.inwards.weight
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("order", torch.arange(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.outwards(self.inwards(x)[..., self.order] * self.scale) * (1 - self.rate)


class RefusesEverything(nn.Module):
    """Fits no layout."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("I take nothing")


class Faulty(nn.Module):
    """Runs without data, and does what `fault` says on the real thing: one of FAULTS, or something about tensors."""

    def __init__(self, dim: int, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        if type(x) is Tensor and x.device.type != "meta":
            (FAULTS | _OF_TENSORS).get(self.fault, lambda: None)()
        y = self.proj(x)
        return y / 0 if self.fault == "nan" else y


_LEFT: list[object] = []


def _at_once() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def _bit_by_bit() -> None:
    """Each without touching it, so that it takes no time."""
    held = []
    while True:
        held.append(torch.empty(2**28, dtype=torch.uint8))


def _objects() -> None:
    """In circles, so that they do not go with the last who knows them."""
    held: list[object] = []
    while True:
        held.append([held])


def _arrays() -> None:
    import numpy

    held = []
    while True:
        held.append(numpy.empty(2**28, dtype=numpy.uint8))


def _keep() -> None:
    """More than a case may leave behind."""
    if not _LEFT:
        _LEFT.append(torch.ones(2**28 + 2**24))


def _switch() -> None:
    """State that is torch's."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(3)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("medium")
    torch.autograd.set_detect_anomaly(True)
    torch.set_flush_denormal(True)
    torch.manual_seed(7)


_OF_TENSORS = {"at_once": _at_once, "bit_by_bit": _bit_by_bit, "objects": _objects, "arrays": _arrays, "keep": _keep,
               "switch": _switch}  # fmt: skip


def build_tokens(dim: int) -> nn.Module:
    """A function that builds a module is a target too."""
    return PlainTokens(dim)


not_a_class = 3
an_instance = nn.Identity()
