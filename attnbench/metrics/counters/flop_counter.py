"""torch's own FlopCounterMode as an outside voice."""

from torch.utils.flop_counter import FlopCounterMode

from attnbench.metrics.counters.quiet import quiet
from attnbench.metrics.subject import Subject

__all__ = ["torch_macs"]


def torch_macs(subject: Subject) -> int:
    """What torch's own counter says of the forward: its FLOPs are two for each multiply-accumulate."""
    with quiet(), FlopCounterMode(display=False) as counter:
        subject.forward()
    return int(counter.get_total_flops()) // 2
