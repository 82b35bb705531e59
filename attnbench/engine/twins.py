"""Two sides of a question in one process: both built and warm, then timed against each other."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attnbench.core.case import Case
from attnbench.core.errors import IncorrectError
from attnbench.core.surroundings import Surroundings
from attnbench.engine.measure import ready
from attnbench.metrics.metric import Finding
from attnbench.metrics.subject import Step, Subject
from attnbench.metrics.timing.disturbance import Around
from attnbench.metrics.timing.paired import Ms, PairedBlock, Pairing, Quads, host_and_cpu, paired, wall_only
from attnbench.metrics.timing.sampling import Block, warm_up
from attnbench.metrics.timing.timers import EventTimer, host_block
from attnbench.targets.backend import attention_backend
from attnbench.targets.code import code_of
from attnbench.targets.engines import engine_of
from attnbench.targets.sources import locate
from attnbench.targets.version_clash import own_code_only
from attnbench.targets.versions import PRESENT, Version

__all__ = ["Side", "Standing", "made_of", "twins"]

# Seconds that each of the two is warmed up for, at most; and steps of one length up to this ratio of their times.
_WARM_UP, _ALIKE = 1.0, 1.5


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a resolved Case, and the version of the code that is meant by it."""

    case: Case
    version: Version = field(default=PRESENT)


@dataclass(frozen=True, slots=True)
class Standing:
    """Which side is being built; what is raised until the next one stands is its fault. None once both are there."""

    which: int | None


def twins(sides: Sequence[Side], how: Pairing, seed: int) -> Iterator[Standing | Finding | Surroundings | Quads]:
    """What is being built, what is to be said of it, and at last what went on around the quads, and the quads of
    the two sides, the first in first place.

    `seed` decides which is built first and the order of the quads. Equal inputs are shared: where they lie in memory is
    then the same for both.

    Raises:
        CaseError: a side does not fit, does not run, or gives something that is not a number.
        VersionsClash: the two cannot share a process.
    """
    rng = random.Random(seed)
    order = [0, 1] if rng.random() < 0.5 else [1, 0]
    subjects: dict[int, Subject] = {}
    with ExitStack() as stack:
        _located(sides)
        for which in order:
            yield Standing(which)
            case = sides[which].case
            with sides[which].version.active(), attention_backend(case.backend):
                subjects[which] = ready(case)
                _share(subjects, which)
                findings = list(stack.enter_context(engine_of(case.engine)).prepared(subjects[which]))
            yield from findings
        yield Standing(None)
        _keep_apart(sides, subjects)
        around = Around(sides[0].case.device)
        quads = _quads([(sides[which].version, subjects[which]) for which in (0, 1)], how, rng)
        yield around.seen()
        yield quads


def _located(sides: Sequence[Side]) -> None:
    """Import all that is meant, the working tree's code first: of what a process can hold only once that is noticed
    where the other version's would replace it."""
    for side in sorted(sides, key=lambda side: side.version.moves):
        with side.version.active():
            for name in side.case.targets:
                locate(name)


def _keep_apart(sides: Sequence[Side], subjects: Mapping[int, Subject]) -> None:
    """See that neither version's step runs code of the other, such as what a registry has in its place."""
    if sides[0].version == sides[1].version:
        return
    for which in (0, 1):
        version, other = sides[which].version, sides[1 - which].version
        with version.active(), attention_backend(sides[which].case.backend), own_code_only(version, other):
            subjects[which].step()


def made_of(side: Side) -> dict[str, str]:
    """A digest of each module of the user's code that a side runs, by its path.

    Raises:
        CaseError: it does not run.
    """
    with side.version.active(), attention_backend(side.case.backend):
        ready(side.case)  # a module may import what it needs as late as in a step
    return code_of(side.version, side.case.targets)


def _share(subjects: dict[int, Subject], which: int) -> None:
    """Give a side the inputs of the other where they are the same."""
    other = subjects.get(1 - which)
    mine = subjects[which]
    if other is not None and list(map(_kind, mine.inputs)) == list(map(_kind, other.inputs)):
        mine.inputs = other.inputs


def _kind(value: object) -> object:
    """Equal for two inputs that the same seed made the same."""
    return (tuple(value.shape), value.dtype, value.requires_grad) if isinstance(value, Tensor) else value


def _quads(sides: Sequence[tuple[Version, Subject]], how: Pairing, rng: random.Random) -> Quads:
    timer = _Timer(sides[0][1].case)
    blocks = [timer.block(version, subject) for version, subject in sides]
    levels = [warm_up(_wall(block), _WARM_UP) for block in blocks]
    if max(levels) < _ALIKE * min(levels):  # of one length, so that a block is the same work on both sides
        levels = [sum(levels) / 2] * 2
    steps = [max(1, round(how.block_ms / level)) for level in levels]
    return paired(blocks[0], blocks[1], (steps[0], steps[1]), how, rng)


def _wall(block: PairedBlock) -> Block:
    return lambda steps: block(steps).wall


class _Timer:
    """The clock of a Case's device, which both sides are timed by."""

    def __init__(self, case: Case) -> None:
        self._events = EventTimer() if case.device.startswith("cuda") else None

    def block(self, version: Version, subject: Subject) -> PairedBlock:
        """Blocks of the mode's step; what belongs to its version is in place before the clock is read."""
        whole, *part = (self._timed(subject, what) for what in subject.parts)

        def block(steps: int) -> Ms:
            with version.active(), attention_backend(subject.case.backend):
                return _less(whole(steps), part[0](steps)) if part else whole(steps)

        return block

    def _timed(self, subject: Subject, what: Step) -> PairedBlock:
        def run(steps: int) -> None:
            subject.repeat(steps, what)

        if self._events is not None:
            return wall_only(self._events.warm(run))
        # Threads that wait for each other spin, and their CPU time is not what the step costs.
        return host_and_cpu(run) if torch.get_num_threads() == 1 else wall_only(host_block(run))


def _less(whole: Ms, part: Ms) -> Ms:
    """A backward's time, by difference."""
    left = Ms(whole.wall - part.wall, None if whole.cpu is None or part.cpu is None else whole.cpu - part.cpu)
    if left.wall <= 0 or (left.cpu is not None and left.cpu <= 0):
        raise IncorrectError("the time of the backward is lost in the noise of what it is the difference of: compare "
                             "with --mode fwd_bwd")  # fmt: skip
    return left
