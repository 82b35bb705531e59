"""Makes a stored baseline, or refreshes one: on a quiet machine, or not at all."""

import random
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from attnbench import __version__
from attnbench.core.commit import git_commit
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.record import Record
from attnbench.engine.gate.baseline import Baseline, Line, exact_figures, what_matters
from attnbench.engine.gate.calm import best_loop, best_of, slowed
from attnbench.engine.gate.duel import Failed
from attnbench.engine.gate.same_kind import same_kind
from attnbench.engine.gate.stored import HOW, Against, against
from attnbench.engine.gate.yardsticks import YARDSTICKS, shape_for
from attnbench.engine.workers.channels import Channel
from attnbench.metrics.timing.paired import Pairing

__all__ = ["LAUNCHES", "made", "refreshed"]

Tell = Callable[[str], None]

# Fresh processes that a baseline is of, and how many may be asked for so many: each that was disturbed is tried again.
LAUNCHES: Final = 12
_TRIES: Final = 2
# Without a calm one among the first, there will be none.
_HOPELESS: Final = 5
# The standard deviation of a launch beyond which a check does not find 10 % any more: at 1 % it finds 5 % nearly
# always, at 2 % it finds 10 %.
_MOST_SPREAD: Final = 0.025
# Standard errors within which an old line and a new one say the same: one line in four hundred is then rewritten for
# nothing.
_SAME: Final = 3.0
# Fewer say too little of how much they differ.
_FEWEST: Final = 5
_ADVICE: Final = "end other programs, wait until the machine is quiet, and update again"


def _silent(what: str) -> None:
    """Nobody watches."""


@dataclass(slots=True)
class _Taken:
    """What was taken of one case so far."""

    record: Record
    shape: tuple[int, int, int]
    calm: list[Against] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    unrest: list[str] = field(default_factory=list)
    failed: Failed | None = None


def made(
    records: Sequence[Record],
    channel: Channel,
    env: Mapping[str, Any],
    *,
    launches: int = LAUNCHES,
    how: Pairing = HOW,
    timeout: float | None = None,
    tell: Tell = _silent,
    seed: int = 0,
) -> Baseline:
    """A baseline of these cases: `records` have their exact figures, and those that ended well are timed, in so many
    fresh processes. `env` is the environment that the channel answers in.

    Raises:
        CannotJudgeError: the machine is too noisy to say what a step takes; the message says what is noisy.
        UsageError: so few launches make no baseline, or a target is not there.
    """
    if launches < _FEWEST:
        raise UsageError(f"a baseline of {launches} launches says too little of what they differ by: take {_FEWEST} or "
                         "more.")  # fmt: skip
    rng = random.Random(seed)
    taken = [_Taken(record, shape_for(record.case)) for record in records]
    for number in range(_TRIES * launches):
        wanting = [each for each in taken if each.record.ok and not each.failed and len(each.calm) < launches]
        if not wanting:
            break
        channel.fresh()
        for each in rng.sample(wanting, len(wanting)):
            tell(f"launch {number + 1}: {each.record.case.name} ({len(each.calm)} of {launches} taken)")
            _launch(each, channel, how, rng.getrandbits(32), timeout)
        _refuse_unrest(taken, launches)
    lines = [_line(each) for each in taken]
    _refuse_spread(lines)
    return Baseline(what_matters(env), tuple(lines), YARDSTICKS, __version__, git_commit(),
                    datetime.now(UTC).isoformat(timespec="seconds"), _best_loop(taken))  # fmt: skip


def _launch(taken: _Taken, channel: Channel, how: Pairing, seed: int, timeout: float | None) -> None:
    found = against(channel, taken.record.case, taken.shape, YARDSTICKS, how, seed, timeout)
    if isinstance(found, Failed):
        taken.failed = found
    elif words := found.unrest(taken.record.case.device, _best_loop([taken])):
        taken.unrest.append(words)
    else:
        taken.calm.append(found)
        taken.best = best_of(found.yardstick_ms, taken.best)
        _sift(taken)


def _sift(taken: _Taken) -> None:
    """Put aside what a later launch shows to have been slowed."""
    slow = [each for each in taken.calm if slowed(each.yardstick_ms, taken.best, {})]
    taken.unrest += [slowed(each.yardstick_ms, taken.best, {}) for each in slow]
    taken.calm = [each for each in taken.calm if each not in slow]


def _best_loop(taken: Sequence[_Taken]) -> float | None:
    return best_loop(launch.around for each in taken for found in each.calm for launch in found.launches.values())


def _refuse_unrest(taken: Sequence[_Taken], launches: int) -> None:
    """As soon as too many were disturbed for enough calm ones to be left; said with what disturbed most."""
    for each in taken:
        hopeless = len(each.unrest) >= _HOPELESS and not each.calm
        if hopeless or len(each.unrest) > (_TRIES - 1) * launches:
            words, count = Counter(each.unrest).most_common(1)[0]
            raise CannotJudgeError(f"the machine is too noisy for a baseline: in {count} of "
                                   f"{len(each.unrest) + len(each.calm)} processes {words}; {_ADVICE}")  # fmt: skip


def _line(taken: _Taken) -> Line:
    record, figures = taken.record, exact_figures(taken.record)
    if taken.failed is not None:
        return Line(record.case, taken.failed.status, taken.failed.reason, figures)
    if not taken.calm:
        return Line(record.case, record.status, record.reason, figures)
    # One clock for all: what had to be judged by the wall now and then is not told by CPU time.
    clock = statistics.mode(each.clock for each in taken.calm)
    alike = [each for each in taken.calm if each.clock == clock]
    ratios = {name: tuple(each.log_ratios[name] for each in alike) for name in YARDSTICKS}
    step_ms = statistics.median(each.step_ms for each in alike)
    return Line(record.case, record.status, record.reason, figures, taken.shape, ratios, step_ms, clock,
                taken.best)  # fmt: skip


def _refuse_spread(lines: Sequence[Line]) -> None:
    wide = [line for line in lines if line.is_timed and line.spread > _MOST_SPREAD]
    if wide:
        worst = max(wide, key=lambda line: line.spread)
        raise CannotJudgeError(
            f"the machine is too noisy for a baseline: from process to process {worst.case.name} {worst.case.size} "
            f"differs by {worst.spread * 100:.2g} % (standard deviation; {_MOST_SPREAD * 100:g} % is the most that a "
            f"check can use), and {len(wide) - 1} of {len(lines)} cases more do; {_ADVICE}")  # fmt: skip


def refreshed(old: Baseline, new: Baseline) -> Baseline:
    """The old baseline with the lines of the new one; cases that were not asked for stay as they are.

    So does a line whose figures are the same and whose launches say the same: what has not changed is no difference
    in a commit, and many small steps in one direction are not taken for none.

    Raises:
        CannotJudgeError: the two were not made in environments of one kind, or against other yardsticks.
    """
    asked = {line.case.key: line for line in new.lines}
    kept = [line for line in old.lines if line.case.key not in asked]
    reason = same_kind(old.env, new.env) or ("" if old.yardsticks == new.yardsticks else
                                             "the baseline was measured against other yardsticks")  # fmt: skip
    if not reason:
        lines = [_settled(old.line(line.case), line) for line in new.lines]
        same = not kept and len(lines) == len(old.lines) and all(old.line(line.case) is line for line in lines)
        best = min((us for us in (old.loop_us, new.loop_us) if us), default=None)
        return old if same else replace(new, lines=(*kept, *lines), loop_us=best)
    if kept:
        raise CannotJudgeError(f"{reason.partition(':')[0]}, and {len(kept)} of its cases were not measured anew "
                               f"({kept[0].case.name} {kept[0].case.size} is one): measure all of them, or write to "
                               "another file")  # fmt: skip
    return new


def _settled(old: Line | None, new: Line) -> Line:
    """The old line where the new one says the same, else the new one."""
    if old is None or _timeless(old) != _timeless(new):
        return new
    if not (old.is_timed and new.is_timed):
        return old if old.is_timed == new.is_timed else new
    change = statistics.fmean(new.launches) - statistics.fmean(old.launches)
    return old if abs(change) <= _SAME * (old.error**2 + new.error**2) ** 0.5 else new


def _timeless(line: Line) -> Line:
    """Without what differs from one run to the next."""
    return replace(line, log_ratios={}, step_ms=None, yardstick_ms={})
