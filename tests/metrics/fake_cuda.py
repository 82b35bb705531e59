"""A device with a queue, in place of torch.cuda: launches take the host's time, kernels the device's, one by one."""

from collections.abc import Callable

from attnbench.metrics.timing.timers import EventTimer

CYCLES_A_MS = 1_000_000


class FakeEvent:
    def __init__(self, device: "FakeCuda") -> None:
        self._device = device
        self.at = 0.0

    def record(self) -> None:
        self.at = max(self._device.free, self._device.host)

    def query(self) -> bool:
        return self.at <= self._device.host

    def elapsed_time(self, other: "FakeEvent") -> float:
        return other.at - self.at


class FakeCuda:
    """Times in ms: `host` is where the host is, `free` when the device will have done all it was given."""

    def __init__(self) -> None:
        self.host = 0.0
        self.free = 0.0
        self.flushed = False
        self.slept: list[float] = []

    def timer(self) -> EventTimer:
        """A timer on this device, which flushes its cache."""
        timer = EventTimer(self, self.clock_ns)
        timer._flushed = self
        return timer

    def Event(self, enable_timing: bool) -> FakeEvent:  # noqa: N802 - torch's name
        assert enable_timing
        return FakeEvent(self)

    def _sleep(self, cycles: int) -> None:
        self.slept.append(cycles / CYCLES_A_MS)
        self.launch(0.001, cycles / CYCLES_A_MS)

    def synchronize(self) -> None:
        self.host = max(self.host, self.free)

    def launch(self, host_ms: float, device_ms: float) -> None:
        self.host += host_ms
        self.free = max(self.free, self.host) + device_ms

    def clock_ns(self) -> int:
        return round(self.host * 1e6)

    def zero_(self) -> None:
        """The flush: it takes its own time, and the next kernel finds nothing in the cache."""
        self.launch(0.002, 0.05)
        self.flushed = True

    def steps(self, host_ms: float, warm_ms: float, cold_ms: float | None = None) -> Callable[[int], None]:
        """A step of one kernel."""

        def run(count: int) -> None:
            for _ in range(count):
                self.launch(host_ms, cold_ms if self.flushed and cold_ms is not None else warm_ms)
                self.flushed = False

        return run
