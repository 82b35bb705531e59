"""The CPU allocator's events as the public profiler reports them: what attnbench's own account is held against."""

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

__all__ = ["allocated_peak", "allocator_events"]


def allocator_events(step: Callable[[], Any]) -> list[int]:
    """Bytes of each allocation (+) and release (-) of one step, in order of time."""
    step()  # caches of the libraries are filled
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = step()
        del output
    events = list(profiler.profiler.kineto_results.events())  # type: ignore[union-attr]
    memory = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    return [size for _, size in sorted(memory, key=lambda event: event[0])]


def allocated_peak(step: Callable[[], Any]) -> int:
    """The most bytes that one step takes at once beside what lived before it."""
    now = peak = 0
    for size in allocator_events(step):
        now += size
        peak = max(peak, now)
    assert now == 0, "the profiler missed an event"
    return peak
