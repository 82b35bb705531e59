"""Activities of a device as a profiler would give them, without a device or a profiler."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from torch.autograd import DeviceType

from attnbench.metrics.kernels import Activity
from attnbench.metrics.subject import Step, Subject

MARK = "at::cuda::(anonymous namespace)::spin_kernel(long)"

# One after the other: names and microseconds.
Kernels = Sequence[tuple[str, float]]


def in_a_row(kernels: Kernels, start: float = 0.0) -> list[Activity]:
    """Each where the one before ends."""
    row = []
    for name, duration in kernels:
        row.append(Activity(name, start, duration))
        start += duration
    return row


class CannedProfiler:
    """Gives canned activities: `forward` for a forward that is kept, else one of `steps` after the other.

    It puts marks between them, after `lead` others; `lost` of the first activities never arrive.
    """

    def __init__(self, *steps: Kernels, forward: Kernels = (), lead: int = 3, lost: int = 0) -> None:
        self._steps, self._forward, self._lead, self._lost = steps, forward, lead, lost
        self.asked: list[tuple[tuple[Step, ...], int]] = []

    def __call__(self, subject: Subject, parts: Sequence[Step], steps: int) -> list[Activity]:
        self.asked.append((tuple(parts), steps))
        rows: list[Kernels] = [[(MARK, 1.0)] * self._lead]
        for part in parts:
            for number in range(steps):
                kernels = self._forward if part == "forward_kept" else self._steps[number % len(self._steps)]
                rows.append([(MARK, 1.0), *kernels])
        rows.append([(MARK, 1.0)])
        activities = in_a_row([kernel for row in rows for kernel in row])[self._lost :]
        return activities[::2] + activities[1::2]  # in no order


def event(name: str, start: float = 0.0, end: float = 1.0, device: DeviceType = DeviceType.CUDA, **more: Any) -> Any:
    """An event of torch's profiler, as far as it is looked at."""
    return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(start=start, end=end), **more)
