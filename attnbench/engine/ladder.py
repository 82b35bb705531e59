"""One target at a ladder of sizes: resolved once, then counted or timed at each side."""

import math
from collections.abc import Sequence

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import Record
from attnbench.engine.asking import measured, resolved
from attnbench.engine.processes import as_kept
from attnbench.engine.workers.channels import Channel
from attnbench.metrics.metric import Options

__all__ = ["LATTICE", "SIDES", "SMALL", "TIMED", "TIMED_LARGER", "at_side", "climbed", "rooted", "side_of"]

# Seven sides prove a polynomial of the fourth degree with two spare points; the powers of two tell N log N, and the
# last three are large enough for an exponent. Multiples of 32 suit networks that halve their map five times.
SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 512, 1024)
# Windows of 7 and 12 pad at those sides and fit into these: 672 = 2^5 * 3 * 7. The last one is far off, since windows
# of 11, into which 61 * 11 = 671 fit, pad by one less at each step, which would look like a law.
LATTICE = tuple(672 * k for k in (1, 2, 3, 4, 5, 6, 12))
# What has to run on real tensors runs at these; a network's images are larger than a module's maps.
SMALL = {"module": (8, 12, 16, 20, 24, 28, 32), "network": (32, 64, 96, 128, 160, 192, 224)}
# The first is as good as empty: its latency is the fixed cost of a step.
TIMED = {"module": (4, 16, 24, 32, 48, 64, 96), "network": (32, 64, 96, 128, 160, 192, 224)}
# Where all of those cost little more than the first.
TIMED_LARGER = (128, 192, 256, 384, 512)


def at_side(case: Case, side: int) -> Case:
    """The Case on a square map, or image, of that side; a network of tokens with as many as such a map has."""
    if case.kind == "network" and case.tokens is not None:
        return case.with_(tokens=side * side)
    tokens = side * side if case.kind == "module" else None
    return case.with_(height=side, width=side, tokens=tokens)


def side_of(case: Case) -> int:
    """The side that a Case on the ladder is at."""
    return case.height or math.isqrt(case.tokens or 0)


def rooted(case: Case, channel: Channel, sides: Sequence[int], timeout: float | None = None) -> Case:
    """The Case with its layout and heads said, at the first side that it can be built at.

    Raises:
        UsageError: the target is not there, or it can be built at none; the message is that of the first side.
    """
    refusal: UsageError | None = None
    if case.height is None and case.tokens is None:  # its library tells whether it reads images or tokens
        (sized,) = resolved([case], channel, timeout)
        assert isinstance(sized, Case)  # as below
        case = sized
    for side in sides:
        try:
            (answer,) = resolved([at_side(case, side)], channel, timeout)
        except UsageError as error:
            refusal = refusal or error
        else:
            assert isinstance(answer, Case)  # a Case that cannot be built is a UsageError where it is alone
            return answer
    assert refusal is not None
    raise refusal


def climbed(
    case: Case, channel: Channel, sides: Sequence[int], options: Options, timeout: float | None = None
) -> list[Record]:
    """The records of a rooted Case at each side; a side that it refuses is a record with the reason, and never run."""
    if not sides:
        return []
    try:
        ready = resolved([at_side(case, side) for side in sides], channel, timeout)
    except UsageError:  # it refuses them all
        return []
    records = (each if isinstance(each, Record) else measured(each, channel, options, timeout) for each in ready)
    return [as_kept(record, options) for record in records]
