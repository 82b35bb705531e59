"""torch's own FlopCounterMode as an outside voice, and what it is able to hear."""

from collections import Counter

from torch.utils.flop_counter import FlopCounterMode, flop_registry

from attnbench.metrics.counters.quiet import quiet
from attnbench.metrics.subject import Subject

__all__ = ["hears", "torch_macs", "torch_macs_by_kernel"]


def torch_macs_by_kernel(subject: Subject) -> Counter[str]:
    """What torch's own counter says of the forward, by operator; its FLOPs are two for each multiply-accumulate."""
    with quiet(), FlopCounterMode(display=False) as counter:
        subject.forward()
    flops = counter.get_flop_counts().get("Global", {})
    return Counter({str(kernel): int(number) // 2 for kernel, number in flops.items()})


def torch_macs(subject: Subject) -> int:
    """The sum of `torch_macs_by_kernel`."""
    return torch_macs_by_kernel(subject).total()


def hears(kernel: str) -> bool:
    """Whether torch's counter knows that operator: vectors, in-place forms and explicit sums, for example, it does not.

    It takes complex numbers for real ones, so the kernels of such products bear a name that it does not know.
    """
    return kernel in _KNOWN


_KNOWN = frozenset(map(str, flop_registry))
