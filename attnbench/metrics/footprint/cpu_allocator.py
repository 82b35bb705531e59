"""Follows torch's CPU allocator by its own events: every block taken and given back, inside kernels too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["Account", "followed"]

_TORCH: Any = torch.autograd  # what is used of it is not among its typed names
_BLOCK = "memory_alloc"


class Account:
    """Bytes taken since the account was opened: `now`, and the most at once, `peak`.

    Blocks that were taken earlier do not count, nor does giving them back.
    """

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0

    def book(self, changes: list[int]) -> None:
        """Add allocations (positive) and releases (negative) in the order in which they happened."""
        for change in changes:
            self.now += change
            self.peak = max(self.peak, self.now)


@contextmanager
def followed(account: Account) -> Iterator[Account]:
    """Book on the account what this thread takes and gives back inside; several such blocks may follow each other."""
    with _light_profiler(account) if _has_light_profiler() else _kineto_profiler(account):
        yield account


def _has_light_profiler() -> bool:
    return hasattr(_TORCH, "_enable_profiler_legacy") and hasattr(_TORCH, "ProfilerConfig")


@contextmanager
def _light_profiler(account: Account) -> Iterator[None]:
    """The profiler that keeps a plain list of events: 25 us to switch on and off, and it prints nothing."""
    experimental = torch._C._profiler._ExperimentalConfig()
    _TORCH._enable_profiler_legacy(
        _TORCH.ProfilerConfig(_TORCH.ProfilerState.CPU, False, True, False, False, False, experimental)
    )
    try:
        yield
    finally:
        threads = _TORCH._disable_profiler_legacy()
        account.book([each.cpu_memory_usage() for events in threads for each in events if each.kind() == _BLOCK])


@contextmanager
def _kineto_profiler(account: Account) -> Iterator[None]:
    """The same from the public profiler, a thousand times slower."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield
    results = profiler.profiler.kineto_results
    events = [(each.start_ns(), each.nbytes()) for each in results.events() if each.name() == "[memory]"]
    account.book([size for _, size in sorted(events, key=lambda event: event[0])])
