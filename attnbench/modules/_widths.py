"""Widths that follow from the number of channels; what does not divide or vanishes is refused in one sentence."""

__all__ = ["head_dim", "reduced"]


def head_dim(dim: int, heads: int) -> int:
    """Channels of one head; ValueError when the heads do not divide the channels."""
    if dim % heads:
        raise ValueError(f"dim={dim} is not divisible by the number of heads, {heads}")
    return dim // heads


def reduced(dim: int, ratio: int, name: str) -> int:
    """Channels after a reduction by the hyper-parameter of that name; ValueError when none would be left."""
    if dim < ratio:
        raise ValueError(f"dim={dim} is smaller than {name}={ratio}: no channel would be left")
    return dim // ratio
