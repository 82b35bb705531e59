"""An attention made for a place in a network: its constructor filled, its layout found, made to read what is there."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from attnbench.core.case import Scalar
from attnbench.targets.construct import construct
from attnbench.targets.detect import detect
from attnbench.targets.layouts import Shape, inner, over_map, over_tokens
from attnbench.targets.sources import Target

__all__ = ["Maker"]

_MAPS = ("bchw", "bhwc")


@dataclass(slots=True)
class Maker:
    """Makes attentions of one kind, with the user's settings, for places of any shape."""

    attention: Target
    settings: Mapping[str, Scalar]
    heads_given: bool
    found: dict[Shape, str] = field(default_factory=dict)

    def over_map(self, shape: Shape) -> nn.Module:
        """On maps (B, C, H, W) of that shape.

        Raises:
            UnsupportedError: it cannot be built so, or not read a map.
            UsageError: an argument cannot be filled in.
        """
        return self._bare(over_map(self._built(shape), self._layout(shape)), "bchw", shape)

    def over_tokens(self, shape: Shape) -> nn.Module:
        """On tokens (B, N, C) of that shape; raises as `over_map`."""
        plain = replace(shape, height=None, width=None)
        return self._bare(over_tokens(self._built(plain), self._layout(shape), plain), "bnc", shape)

    def reads_maps(self, shape: Shape) -> bool:
        """Whether it reads maps by its layout."""
        return self._layout(shape) in _MAPS

    def has(self, setting: str) -> bool:
        """Whether its constructor has that parameter."""
        try:
            return setting in inspect.signature(self.attention.factory).parameters
        except (TypeError, ValueError):
            return False

    def with_(self, **settings: Scalar) -> "Maker":
        """A Maker with these settings where the user gave none."""
        return replace(self, settings={**settings, **self.settings})

    def _bare(self, module: nn.Module, layout: str, shape: Shape) -> nn.Module:
        """One of ours that takes and gives just that needs nothing around it; what a user's gives is not known."""
        return inner(module) if self.attention.spec is not None and self._layout(shape) == layout else module

    def _built(self, shape: Shape) -> nn.Module:
        module, _ = construct(self.attention.name, self.attention.factory, shape, self.settings, self.heads_given)
        return module

    def _layout(self, shape: Shape) -> str:
        if self.attention.spec is not None:
            return self.attention.spec.layout
        if shape not in self.found:  # a network has many places of one shape
            self.found[shape] = detect(self.attention, shape, self.settings, self.heads_given)
        return self.found[shape]
