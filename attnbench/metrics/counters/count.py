"""What a step computes, as the counter at the dispatcher writes it down."""

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Count"]


@dataclass(slots=True)
class Count:
    """What one step of the whole batch computes.

    `by_op` are the forward's MACs under the names that the module called (`linear`, `einsum`), `by_kernel` under those
    of the dispatcher (`aten.addmm`), `by_module` those of each module with its children (`""` is the whole). `masked`
    are MACs that a causal flag makes useless. `elementwise` counts output elements, `reductions` input elements,
    `fft_flops` FLOPs; these are the forward's. `backward` is the mathematics of the gradients, `recomputed` what
    checkpoints and fused kernels compute again. `uncounted` names every operator that nobody knows, with its calls.
    """

    by_op: Counter[str] = field(default_factory=Counter)
    by_kernel: Counter[str] = field(default_factory=Counter)
    by_module: Counter[str] = field(default_factory=Counter)
    masked: int = 0
    elementwise: int = 0
    reductions: int = 0
    fft_flops: int = 0
    backward: int = 0
    recomputed: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)

    @property
    def macs(self) -> int:
        """Contraction multiply-accumulates of the forward."""
        return sum(self.by_op.values())
