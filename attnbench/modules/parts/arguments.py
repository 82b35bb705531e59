"""Arguments of constructors, and the widths that follow from them; what does not fit is refused in one sentence."""

__all__ = ["head_dim", "one_of", "reduced", "same_padding"]


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


def same_padding(kernel_size: int, name: str = "kernel_size") -> int:
    """The padding that keeps the size; ValueError when the kernel is even and none does."""
    if kernel_size % 2 == 0:
        raise ValueError(f"{name}={kernel_size} is even: only an odd kernel keeps the map's size")
    return kernel_size // 2


def one_of(name: str, value: str, *choices: str) -> str:
    """The value of the hyper-parameter of that name; ValueError, with all choices, when it is none of them."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is none of {', '.join(choices)}")
    return value
