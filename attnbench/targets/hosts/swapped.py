"""What stands in the place of a network's own attention: the new one, called and answering as the old one was."""

from typing import Any

from torch import Tensor, cat, nn

from attnbench.targets.hosts.attentions import Place

__all__ = ["Swapped"]

_PLAIN = (bool, int, float, str, tuple, type(None))


class Swapped(nn.Module):
    """An attention in the place of a host's: takes what the host passes, finds the hidden states, returns their like.

    `attention` works on tokens (B, N, C), or with `over` on a map (B, C, H, W); tokens before the map, those of a
    class or registers, then pass by it unchanged. Masks, biases and caches that come with the hidden states are passed
    over, and what the host computed besides is None. Plain attributes that the network may read (`batch_first`) are
    the host's.
    """

    # torch's encoder layers ask for these before they take a fast path that calls no module at all.
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.Module, place: Place, host: nn.Module, over: tuple[int, int] | None) -> None:
        super().__init__()
        for name, value in vars(host).items():
            if isinstance(value, _PLAIN) and not name.startswith("_") and name != "training":
                setattr(self, name, value)
        self.attention = attention
        self._place, self._over = place, over

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        at = self._place.position
        x: Tensor = args[at] if 0 <= at < len(args) else kwargs[self._place.argument]
        y = self._tokens(x)
        return y if self._place.extras is None else (y, *self._place.extras)

    def _tokens(self, x: Tensor) -> Tensor:
        """From the host's layout to tokens (B, N, C) or a map, and back."""
        match self._place.layout:
            case "nbc":
                return self._attend(x.transpose(0, 1)).transpose(0, 1)
            case "btnc":
                return self._attend(x.flatten(0, 1)).reshape(x.shape)
            case "bhwc" if self._over:
                return self._call(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, H, W, C) -> (B, C, H, W)
            case "bhwc":
                return self._attend(x.flatten(1, 2)).reshape(x.shape)
            case "bchw" if self._over:
                return self._call(x)
            case "bchw":
                return self._attend(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        return self._attend(x)

    def _attend(self, x: Tensor) -> Tensor:
        if self._over is None:
            return self._call(x)
        prefix = self._place.prefix
        maps = x[:, prefix:].transpose(1, 2).reshape(x.shape[0], -1, *self._over)  # (B, N, C) -> (B, C, H, W)
        attended = self._call(maps).flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)
        return cat((x[:, :prefix], attended), dim=1) if prefix else attended

    def _call(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x)
        return y
