"""Times blocks of steps: by the host's clock on a CPU, by events of the device on a GPU whose queue is kept full."""

import time
from collections.abc import Callable
from typing import Any

import torch

from attnbench.metrics.timing.sampling import Block

__all__ = ["EventTimer", "Run", "host_block"]

# Runs so many steps back to back.
Run = Callable[[int], None]

# The device is held for this many times what the host took to queue a block, and at the utmost for so long.
_HOLD, _LONGEST_HOLD_MS = 1.5, 200.0
_TRIES = 4
_CALIBRATION_CYCLES = 2_000_000
# The flush writes this many times the size of the L2 cache, so that nothing of a step is left in it.
_FLUSH = 2


def host_block(run: Run, clock_ns: Callable[[], int] = time.perf_counter_ns) -> Block:
    """Blocks of `run` by the host's monotonic clock, which is not read inside them."""

    def block(steps: int) -> float:
        start = clock_ns()
        run(steps)
        return (clock_ns() - start) / steps / 1e6

    return block


class EventTimer:
    """Times blocks between two events on the device.

    Before each block the device is held by a kernel that only waits, until the host has queued all of the block: no
    gap between launches is then part of its time. Where the host was not done when the device began (it waits for the
    device within a step, or the queue is not long enough for one), the block is taken again with a longer hold; if
    that does not help `gaps` turns true and the times hold the gaps. `hosts` are the milliseconds that the host took
    to queue a step of each block without gaps.

    `cuda` is torch.cuda, or what stands for it.
    """

    def __init__(self, cuda: Any = torch.cuda, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.gaps = False
        self.hosts: list[float] = []
        self._cuda, self._clock_ns = cuda, clock_ns
        self._hold_ms = 0.05
        self._cycles_a_ms: float | None = None
        self._flushed: Any = None

    def warm(self, run: Run) -> Block:
        """Blocks of steps back to back, which leave each other what fits in the caches."""

        def block(steps: int) -> float:
            start, stop = self._event(), self._event()

            def queue() -> None:
                start.record()
                run(steps)
                stop.record()

            self._queued(queue, start, steps)
            return float(start.elapsed_time(stop)) / steps

        return block

    def cold(self, run: Run, l2_bytes: int) -> Block:
        """Blocks of steps each between events of its own, with the L2 cache (of so many bytes) overwritten before."""
        if self._flushed is None:
            self._flushed = torch.empty(_FLUSH * l2_bytes, dtype=torch.int8, device="cuda")

        def block(steps: int) -> float:
            pairs = [(self._event(), self._event()) for _ in range(steps)]

            def queue() -> None:
                for start, stop in pairs:
                    self._flushed.zero_()
                    start.record()
                    run(1)
                    stop.record()

            self._queued(queue, pairs[0][0], None)
            return sum(float(start.elapsed_time(stop)) for start, stop in pairs) / steps

        return block

    def _event(self) -> Any:
        return self._cuda.Event(enable_timing=True)

    def _queued(self, queue: Callable[[], None], start: Any, steps: int | None) -> None:
        """Queue a block behind a hold, and wait for it; `start` is its first event, `steps` None where the host's time
        means nothing."""
        for _ in range(1 if self.gaps else _TRIES):
            host_ms = self._held(queue)
            covered = not start.query()  # the device has not begun, and the host is done
            self._cuda.synchronize()
            if covered:
                if steps is not None:
                    self.hosts.append(host_ms / steps)
                return
            if self._hold_ms >= _LONGEST_HOLD_MS:
                break
            self._hold_ms = min(_LONGEST_HOLD_MS, max(2 * self._hold_ms, _HOLD * host_ms))
        self.gaps = True

    def _held(self, queue: Callable[[], None]) -> float:
        """Milliseconds that the host takes to queue it while the device is held."""
        if self._cycles_a_ms is None:
            self._cycles_a_ms = self._calibrated()
        self._cuda.synchronize()
        self._cuda._sleep(int(self._hold_ms * self._cycles_a_ms))
        begin = self._clock_ns()
        queue()
        return (self._clock_ns() - begin) / 1e6

    def _calibrated(self) -> float:
        """Cycles of the waiting kernel in a millisecond."""
        start, stop = self._event(), self._event()
        self._cuda._sleep(_CALIBRATION_CYCLES)  # the first launch of a kernel loads it
        start.record()
        self._cuda._sleep(_CALIBRATION_CYCLES)
        stop.record()
        self._cuda.synchronize()
        return _CALIBRATION_CYCLES / float(start.elapsed_time(stop))
