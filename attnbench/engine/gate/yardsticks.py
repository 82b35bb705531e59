"""Which yardsticks a case is timed beside, and how large they are for it."""

from typing import Final

from attnbench.core.case import Case

__all__ = ["YARDSTICKS", "shape_for", "yardstick_for"]

# Those in use, one that moves memory and one that multiplies; a stored baseline names those that it was written with.
YARDSTICKS: Final = ("yardstick:softmax-1", "yardstick:linear-1")
# Sizes that the yardsticks are kept within: batch, tokens, dim. A step is then of some milliseconds on a CPU, and of
# some tenths of one on a GPU, which would wait for its host with less.
_ON_CPU: Final = ((1, 4), (256, 1024), (32, 128))
_ON_CUDA: Final = ((1, 4), (1024, 4096), (64, 256))
_MODERATE: Final = (1, 1024, 64)


def shape_for(case: Case) -> tuple[int, int, int]:
    """The (batch, tokens, dim) of the yardsticks of a case: its own within bounds, and for a network a moderate one."""
    within = _ON_CUDA if case.device.startswith("cuda") else _ON_CPU
    asked = (case.batch_size, case.tokens or (case.height or 1) * (case.width or 1), case.dim or 1)
    sizes = asked if case.kind == "module" and case.dim is not None else _MODERATE
    batch, tokens, dim = (min(max(size, least), most) for size, (least, most) in zip(sizes, within, strict=True))
    return batch, tokens, dim


def yardstick_for(name: str, shape: tuple[int, int, int], case: Case) -> Case:
    """The yardstick's own case: of the same dtype, device and mode, and always run eagerly."""
    batch, tokens, dim = shape
    mode = "fwd_bwd" if case.mode == "bwd" else case.mode
    return Case(name, layout="bnc", batch_size=batch, tokens=tokens, dim=dim, dtype=case.dtype, device=case.device,
                mode=mode)  # fmt: skip
