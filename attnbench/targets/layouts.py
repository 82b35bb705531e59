"""Layouts: how a shape becomes the inputs of a forward, and which layout a module that does not say wants."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.core.errors import UnsupportedError

__all__ = ["LAYOUTS", "TOKEN_NUMBERS", "Shape", "inner", "make_inputs", "over_map", "over_tokens", "plausible"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Batch B, map H x W (None for plain tokens), tokens N, channels C, heads."""

    batch: int
    height: int | None
    width: int | None
    tokens: int
    dim: int
    heads: int

    @property
    def map(self) -> tuple[int, int]:
        """Height and width; UnsupportedError when the shape is a plain number of tokens."""
        if self.height is None or self.width is None:
            raise UnsupportedError("it reads feature maps: give --res instead of --seq-len")
        return self.height, self.width


Sizes = tuple[int, ...]

# The tensors of a forward in each layout. The order is the order of trying.
LAYOUTS: Mapping[str, Callable[[Shape], tuple[Sizes, ...]]] = {
    "bchw": lambda s: ((s.batch, s.dim, *s.map),),
    "bnc": lambda s: ((s.batch, s.tokens, s.dim),),
    "bhwc": lambda s: ((s.batch, *s.map, s.dim),),
    "nbc": lambda s: ((s.tokens, s.batch, s.dim),),
    "bcn": lambda s: ((s.batch, s.dim, s.tokens),),
    "qk": lambda s: ((s.batch, s.tokens, s.dim),) * 2,
    "qkv": lambda s: ((s.batch, s.tokens, s.dim),) * 3,
    "qkv_nbc": lambda s: ((s.tokens, s.batch, s.dim),) * 3,
    "qkv_bhnd": lambda s: ((s.batch, s.heads, s.tokens, s.dim // s.heads),) * 3,
}

# Networks alone read the tokens' numbers (B, N): how many such tensors. They are never tried on a module.
TOKEN_NUMBERS: Mapping[str, int] = {"ids": 1, "ids_ids": 2}

_HEIGHT, _WIDTH = {"h", "height"}, {"w", "width"}
_BOTH = {"size", "hw", "resolution", "input_resolution", "x_size", "hw_shape", "spatial_shape"}


def make_inputs(module: nn.Module, layout: str, shape: Shape, dtype: torch.dtype, device: str) -> tuple[Any, ...]:
    """Random inputs for the forward: the layout's tensors, then the map's sides where the forward asks for them.

    Raises:
        UnsupportedError: the forward wants more or fewer arguments than the layout gives, or it reads numbers of
            tokens and has no vocabulary.
    """
    if layout in TOKEN_NUMBERS:
        copies = TOKEN_NUMBERS[layout]
        vocabulary = _vocabulary(module)
        ids = [torch.randint(vocabulary, (shape.batch, shape.tokens), device=device) for _ in range(copies)]
        return (*ids, *_extra_arguments(module, copies, shape))
    sizes = LAYOUTS[layout](shape)
    extra = _extra_arguments(module, len(sizes), shape)
    return (*(torch.randn(size, dtype=dtype, device=device) for size in sizes), *extra)


def _vocabulary(network: nn.Module) -> int:
    """How many tokens it knows: what its configuration says, else the rows of its first embedding."""
    for each in network.modules():
        size = getattr(getattr(each, "config", None), "vocab_size", None)
        if isinstance(each, nn.Embedding):
            size = each.num_embeddings
        if isinstance(size, int) and size > 0:
            return size
    raise UnsupportedError("it is to read numbers of tokens, and has no embedding to look them up in")


def _extra_arguments(module: nn.Module, tensors: int, shape: Shape) -> list[Any]:
    parameters = list(inspect.signature(module.forward).parameters.values())
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(plain) < tensors and not variadic:
        raise UnsupportedError(f"its forward takes {len(plain)} argument(s), not {tensors} tensors")
    extra = []
    for parameter in plain[tensors:]:
        value = _side(parameter.name.lower(), shape)
        if value is None and parameter.default is parameter.empty:
            raise UnsupportedError(f"its forward asks for {parameter.name!r}, which is no size of the input")
        if value is None:
            break
        extra.append(value)
    return extra


def _side(name: str, shape: Shape) -> int | tuple[int, int] | None:
    if name in _HEIGHT:
        return shape.map[0]
    if name in _WIDTH:
        return shape.map[1]
    return shape.map if name in _BOTH else None


def plausible(module: nn.Module, layout: str, inputs: tuple[Any, ...], output: Tensor | None) -> int:
    """How well a forward that ran fits the layout: 2 its output has the input's shape, 1 it ran, 0 another order fits.

    Token-first and batch-first inputs both run through most modules; torch's own `batch_first` tells them apart.
    """
    first = next((child.batch_first for child in module.modules() if hasattr(child, "batch_first")), None)
    if first is not None and bool(first) == (layout in ("nbc", "qkv_nbc")):
        return 0
    return 2 if output is not None and output.shape == inputs[0].shape else 1


class _OverMap(nn.Module):
    """Lets an attention of another layout stand in a network of feature maps (B, C, H, W)."""

    def __init__(self, attention: nn.Module, layout: str) -> None:
        super().__init__()
        self.attention, self.layout = attention, layout

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if self.layout == "bchw":
            return _first(self.attention(x, *_extra_arguments(self.attention, 1, Shape(batch, height, width, 1, 1, 1))))
        if self.layout == "bhwc":
            return _first(self.attention(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        tokens = x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)
        copies = len(LAYOUTS[self.layout](Shape(1, 1, 1, 1, 1, 1)))
        shape = Shape(batch, height, width, height * width, channels, 1)
        out = _first(self.attention(*[tokens] * copies, *_extra_arguments(self.attention, copies, shape)))
        return out.transpose(1, 2).reshape(batch, -1, height, width)


class _OverTokens(nn.Module):
    """Lets an attention of another layout stand in a network of tokens (B, N, C)."""

    def __init__(self, attention: nn.Module, layout: str, heads: int) -> None:
        super().__init__()
        self.attention, self.layout, self.heads = attention, layout, heads

    def forward(self, x: Tensor) -> Tensor:
        match self.layout:
            case "nbc" | "qkv_nbc":
                return self._call(x.transpose(0, 1)).transpose(0, 1)  # (B, N, C) -> (N, B, C)
            case "bcn":
                return self._call(x.transpose(1, 2)).transpose(1, 2)
            case "qkv_bhnd":
                split = x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, N, C) -> (B, heads, N, d)
                return self._call(split).transpose(1, 2).flatten(2)
        return self._call(x)

    def _call(self, x: Tensor) -> Tensor:
        return _first(self.attention(*[x] * len(LAYOUTS[self.layout](Shape(1, 1, 1, 1, 1, 1)))))


def _first(output: Any) -> Tensor:
    first: Tensor = output[0] if isinstance(output, tuple | list) else output
    return first


def over_map(attention: nn.Module, layout: str) -> nn.Module:
    """The attention as a module on feature maps.

    Raises:
        UnsupportedError: its layout cannot be made from one feature map.
    """
    if layout not in ("bchw", "bnc", "bhwc", "qk", "qkv"):
        raise UnsupportedError(f"an attention of layout {layout} cannot be inserted into a network of feature maps")
    return _OverMap(attention, layout)


def over_tokens(attention: nn.Module, layout: str, shape: Shape) -> nn.Module:
    """The attention as a module on tokens (B, N, C) of that shape.

    Raises:
        UnsupportedError: it reads maps, or asks for the sides of one where the shape has none.
    """
    if layout in ("bchw", "bhwc"):
        raise UnsupportedError(f"it reads feature maps ({layout}), not tokens")
    make_inputs(attention, layout, shape, torch.float32, "meta")
    return _OverTokens(attention, layout, shape.heads)


def inner(module: nn.Module) -> nn.Module:
    """The attention itself, of what `over_map` or `over_tokens` gave."""
    return module.attention if isinstance(module, _OverMap | _OverTokens) else module
