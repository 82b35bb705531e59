"""One call of a CPU operator made alone, to see in the allocator what it takes; and how much work that would be."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from attnbench.metrics.footprint.calls import Call, TensorSpec
from attnbench.metrics.footprint.cpu_allocator import Account, followed

__all__ = ["LARGE", "SMALL", "TINY", "Budget", "Scratch", "alone"]


@dataclass(frozen=True, slots=True)
class Scratch:
    """`taken` bytes are given back before the operator ends; `kept` are those of its outputs, None if not measured.

    `guessed` says that it was carried on from calls which another kernel may have served.
    """

    taken: int
    kept: int | None = None
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a call may be that is made only to look at it: bytes of operands, and multiply-accumulates."""

    bytes: int
    macs: int

    def covers(self, call: Call) -> bool:
        """Whether the call is small enough."""
        return max(call.bytes, _broadcast(call)) <= self.bytes and _work(call) <= self.macs


# A tiny call takes a millisecond, a small one a few milliseconds, a large one up to a tenth of a second.
TINY, SMALL, LARGE = Budget(2**20, 10**8), Budget(8 * 2**20, 5 * 10**8), Budget(32 * 2**20, 2 * 10**9)


def alone(call: Call) -> Scratch | None:
    """What the call takes when it is made on zeros; None where it refuses them."""
    if not _may_be_made(call):
        return None
    account = Account()
    try:
        run = call.ready()
        with followed(account):
            outputs = run()
    except Exception:  # zeros may be singular, and a shrunk call may have sizes that do not fit each other
        return None
    kept = account.now
    del outputs
    return Scratch(account.peak - max(0, kept), kept)


def _may_be_made(call: Call) -> bool:
    """Other people's operators may do more than compute; a backward that reads an opaque workspace needs a real one."""
    return call.name.startswith("aten.") and not ("rnn" in call.name and "backward" in call.name)


def _broadcast(call: Call) -> int:
    """Bytes of an output that has the size of all operands broadcast against each other; 0 where there is none."""
    if "convolution" in call.name:
        return 0
    rank = max((len(each.shape) for each in call.tensors), default=0)
    sizes = [1] * rank
    for each in call.tensors:
        for dim, size in enumerate(each.shape, start=rank - len(each.shape)):
            if size != 1 and sizes[dim] not in (1, size):
                return 0
            sizes[dim] = max(sizes[dim], size)
    return prod(sizes) * max((each.dtype.itemsize for each in call.tensors), default=0)


def _work(call: Call) -> int:
    """An upper bound of the multiply-accumulates; 0 for what only goes over its operands once or a few times."""
    operands = [each for each in call.arguments if isinstance(each, TensorSpec)]
    match call.name.removeprefix("aten."):
        case "mm" | "bmm" | "addmm" | "baddbmm" | "addbmm" | "mv" | "addmv" | "dot":
            return prod(operands[-2].shape) * operands[-1].shape[-1]
        case "convolution" | "_convolution":
            return _convolution(operands[0], operands[1], call.arguments[3], call.arguments[8])
        case "convolution_backward":
            return 2 * _convolution(operands[1], operands[2], call.arguments[4], call.arguments[9])
        case "mkldnn_rnn_layer" | "mkldnn_rnn_layer_backward":
            return 10 * prod(operands[0].shape[:-1]) * (prod(operands[1].shape) + prod(operands[2].shape))
        case name if "attention" in name or name == "_transformer_encoder_layer_fwd":
            tokens, width = operands[1].shape[-2:] if operands[1].shape[1:] else operands[0].shape[-2:]
            return prod(operands[0].shape) * 2 * (tokens + width)
        case name if name.startswith("linalg_"):
            return 10 * max((prod(each.shape) * max(each.shape, default=1) for each in operands), default=0)
    return 0


def _convolution(data: TensorSpec, weight: TensorSpec, stride: Sequence[int], groups: int) -> int:
    return prod(data.shape) * prod(weight.shape) // max(1, min(weight.shape[:2])) // groups // prod(stride)
