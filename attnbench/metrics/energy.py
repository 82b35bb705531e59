"""What energy a step takes: by the device's own counter, over steps run back to back."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnbench.core.case import Case
from attnbench.core.record import Note, Reading
from attnbench.core.units import significant
from attnbench.metrics.conditions import sharing
from attnbench.metrics.energy_counters import Counter, counter_of
from attnbench.metrics.hardware import OtherLoad
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.nvml import gpu_of
from attnbench.metrics.subject import Subject

__all__ = ["Tick", "energy_of", "measure_energy", "ticks_of", "watts"]

Clock = Callable[[], float]

# A chunk of steps is long against reading the counter, and short against its ticks, which are 1 to 100 ms apart.
_CHUNK_S, _MOST_STEPS = 0.015, 2**20
# Clocks and the counter's own averaging settle first. Then the window grows until it is long against its ends.
_SETTLE_S, _WINDOW_S, _TICKS, _LIMIT_S = 0.2, 1.0, 20, 3.0
_GOOD, _BAD = 0.01, 0.02
# Of one core: less than this is the system's own ticking.
_OTHERS = 0.1


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment at which the counter was seen to have moved: clock, joules, and steps done until then.

    It moved up to `late` seconds before it was seen to.
    """

    seconds: float
    joules: float
    steps: int
    late: float = 0.0


@metric(name="energy", on="after", fields=("energy",))
def measure_energy(subject: Subject, options: Options) -> Iterator[Finding]:
    """Joules a step and a sample, and watts, of steps run back to back."""
    if subject.case.mode == "bwd":
        yield Note("not_measured", "energy: a backward alone cannot be run back to back")
        return
    counter = counter_of(subject.case.device)
    if isinstance(counter, str):
        yield Note("not_measured", f"energy: {counter}")
        return
    others = OtherLoad()
    found = list(energy_of(subject, options, counter))
    yield from found
    if any(isinstance(finding, Reading) for finding in found):
        yield from _doubts(subject.case, others)


def energy_of(subject: Subject, options: Options, counter: Counter, clock: Clock = time.perf_counter,
              wait: Callable[[float], None] = time.sleep) -> Iterator[Finding]:  # fmt: skip
    """What the counter says of the subject's steps; with `options.subtract_idle`, beyond what idleness takes.

    joules per step = watts / steps per second, both over the span between the first and the last tick.
    """
    limit = max(options.max_time, _LIMIT_S)
    idle: list[Tick] = []
    if options.subtract_idle:
        subject.synchronize()
        idle = ticks_of(counter, lambda: _rest(wait), limit, clock)
        if len(idle) < 2:
            yield Note("not_measured", f"energy: {counter.how} was not seen to move twice while the machine was idle")
            return
    chunk = _steps_a_chunk(subject, clock)
    ticks = ticks_of(counter, _runner(subject, chunk), limit, clock)
    subject.synchronize()
    if len(ticks) < 2:
        yield Note("not_measured", f"energy: {counter.how} was not seen to move twice while the steps ran")
        return
    yield from _readings(subject.case, ticks, idle, counter.how)


def ticks_of(counter: Counter, advance: Callable[[], int], limit: float, clock: Clock) -> list[Tick]:
    """The ticks of the counter while `advance` is called again and again; it gives the steps that it saw done.

    They are enough once there are twenty over a second and their ends are sharp to a hundredth of it; where `limit`
    seconds do not hold that, they are fewer. Empty when the counter fails, or goes back because a driver was loaded
    anew.
    """
    begin, last, done = clock(), counter.read(), 0
    ticks: list[Tick] = []
    looked = begin
    while last is not None:
        done += advance()
        now, joules = clock(), counter.read()
        if joules is None or joules < last:
            return []
        moved, last = joules > last, joules
        if moved and now - begin >= _SETTLE_S:
            ticks.append(Tick(now, joules, done, min(now - looked, counter.period_s)))
        looked = now
        # A step may be longer than all the time there is: its second tick is waited for.
        over = now - begin >= limit and not (moved and len(ticks) == 1)
        if over or (len(ticks) >= _TICKS and _span(ticks) >= _WINDOW_S and _blur(ticks) <= _GOOD):
            return ticks
    return []


def watts(ticks: Sequence[Tick]) -> float:
    """The slope between the first and the last tick, of which there are two at least."""
    return (ticks[-1].joules - ticks[0].joules) / _span(ticks)


def _span(ticks: Sequence[Tick]) -> float:
    return ticks[-1].seconds - ticks[0].seconds


def _blur(ticks: Sequence[Tick]) -> float:
    """By how much the span may be off, as a fraction of it, and with it everything that is read off the ticks."""
    return max(ticks[0].late, ticks[-1].late) / _span(ticks)


def _readings(case: Case, ticks: Sequence[Tick], idle: Sequence[Tick], how: str) -> Iterator[Finding]:
    drawn, at_rest = watts(ticks), watts(idle) if idle else 0.0
    net = drawn - at_rest
    blur = (drawn * _blur(ticks) + (at_rest * _blur(idle) if idle else 0.0)) / net if net > 0 else _blur(ticks)
    kept = "net: idle_watts are taken off the joules" if idle else "gross: what idleness takes is in it"
    yield Reading("energy.method", f"{how}, {len(ticks)} ticks over {_span(ticks):.2f} s, ±{blur:.1%}, {kept}")
    yield Reading("energy.watts", drawn, "W")
    if idle:
        yield Reading("energy.idle_watts", at_rest, "W")
    else:
        yield Note("not_measured", "energy.idle_watts: not asked for")
    steps = ticks[-1].steps - ticks[0].steps
    if net <= 0 or steps <= 0:
        yield Note("not_measured", "energy.joules_per_step, energy.joules_per_sample: the steps drew no more than "
                                   "idleness does")  # fmt: skip
        return
    joules = net * _span(ticks) / steps
    yield Reading("energy.joules_per_step", joules, "J", "lower", "Energy")
    yield Reading("energy.joules_per_sample", joules / case.batch_size, "J", "lower")
    if len(ticks) < _TICKS or blur > _BAD:
        between = _span(ticks) / (len(ticks) - 1) * 1000
        yield Note("imprecise", f"the energy comes from {len(ticks)} ticks of a counter, {significant(between, 2)} ms "
                                f"apart, and may be off by ±{blur:.1%}: a longer --max-time gives it more")


def _steps_a_chunk(subject: Subject, clock: Clock) -> int:
    """How many steps last as long as a chunk; one where a single step is longer."""

    def took(steps: int) -> float:
        begin = clock()
        subject.repeat(steps)
        subject.synchronize()
        return clock() - begin

    steps = 1
    while True:
        seconds = min(took(steps), took(steps))  # the first of a kind may be slow, and any by chance
        if seconds >= _CHUNK_S / 2 or steps >= _MOST_STEPS:
            return max(1, round(steps * _CHUNK_S / seconds)) if seconds > 0 else steps
        steps *= 2


def _runner(subject: Subject, chunk: int) -> Callable[[], int]:
    """A call that runs a chunk of steps and says how many steps are done by its end.

    On CUDA the device is always one chunk ahead: it would be idle while the host reads the counter, and that takes
    milliseconds.
    """

    def run() -> int:
        subject.repeat(chunk)
        return chunk

    def run_ahead() -> int:
        subject.repeat(chunk)
        marks.append(_mark())
        if len(marks) == 1:
            return 0
        marks.pop(0).synchronize()
        return chunk

    marks: list[Any] = []
    return run_ahead if subject.case.device.startswith("cuda") else run


def _mark() -> Any:
    """An event behind everything that the device was asked to do."""
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def _rest(wait: Callable[[float], None]) -> int:
    wait(_CHUNK_S)
    return 0


def _doubts(case: Case, others: OtherLoad) -> Iterator[Note]:
    """What else is in the count."""
    if case.device.startswith("cuda"):
        gpu = gpu_of(case.device)
        shared = None if gpu is None else sharing(gpu)
        if shared is not None:
            yield shared
        return
    yield Note("method", "the energy is that of the whole CPU package, with whatever else ran on it")
    if (others.cores() or 0.0) > _OTHERS:
        yield Note("busy", "other processes ran meanwhile, and the energy holds theirs: quiet the machine")
