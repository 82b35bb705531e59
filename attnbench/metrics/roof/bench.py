"""The real calls that find a device's peaks: products of matrices, and streams through buffers of a given footprint."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attnbench.core.units import KIB, MIB
from attnbench.metrics.hardware import free_bytes
from attnbench.metrics.roof.last_level import last_level_bytes
from attnbench.metrics.roof.peaks import Bench, Stream

__all__ = ["TorchBench", "cpu_bench", "cuda_bench", "cuda_footprints", "cuda_timer", "host_timer", "in_tf32"]

Timer = Callable[[Callable[[], object], int], float]

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FLOAT = torch.float32.itemsize
_UNKNOWN_FREE = 1024 * MIB
# A stream goes through a small footprint several times, so that the call itself is no part of its time.
_STREAMED_ON_CPU = 4 * MIB
_STREAMED_ON_CUDA = 512 * MIB
_SMALLEST = 32 * KIB


class TorchBench:
    """Products and streams by torch; `parts` is among how many threads of their own caches a buffer is divided.

    Streams are of fp32 whatever the dtype: bytes are bytes, and sums of shorter types may be slow for other reasons.
    """

    def __init__(self, device: str, dtype: str, sizes: Sequence[int], footprints: Sequence[int], cache_bytes: int,
                 timer: Timer, *, parts: int = 1, streamed: int = _STREAMED_ON_CPU) -> None:  # fmt: skip
        self.sizes, self.footprints, self.cache_bytes = sizes, footprints, cache_bytes
        self._device, self._dtype, self._parts, self._streamed = device, _DTYPES[dtype], parts, streamed
        self._timer = timer
        self._random = torch.Generator(device).manual_seed(0)
        # Its pages are taken as the footprints grow.
        self._buffer = torch.empty(max(footprints) // _FLOAT, device=device)

    def seconds(self, call: Callable[[], object], calls: int) -> float:
        with torch.no_grad():
            return self._timer(call, calls)

    def products(self, size: int) -> Mapping[str, Callable[[], object]]:
        """n x n by n x n; on the CPU also as a 1 x 1 convolution, which another library computes."""
        left, right, out = self._numbers(size, size), self._numbers(size, size), self._numbers(size, size)
        found: dict[str, Callable[[], object]] = {"matrix product": lambda: torch.mm(left, right, out=out)}
        if self._device == "cpu":
            height = next(side for side in (32, 16, 8, 4, 2, 1) if size % side == 0)
            pixels, weight = left.view(1, size, height, size // height), right.view(size, size, 1, 1)
            if _runs(lambda: torch.conv2d(pixels, weight)):
                found["1 x 1 convolution"] = lambda: torch.conv2d(pixels, weight)
        return found

    def _numbers(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._random, dtype=self._dtype, device=self._device) - 0.5

    def streams(self, footprint: int) -> Mapping[str, Stream]:
        buffer = self._buffer[: footprint // _FLOAT]
        half = len(buffer) // 2
        source, target = buffer[:half], buffer[half : 2 * half]
        return {
            # First, since it gives the buffer its pages, and numbers that are quick to sum.
            "fill": Stream(lambda: buffer.fill_(1.0), len(buffer) * _FLOAT),
            "copy": Stream(lambda: target.copy_(source), 2 * half * _FLOAT),
            "read": self._reading(buffer),
        }

    def _reading(self, buffer: Tensor) -> Stream:
        """Sums of each part, taken again and again while it lies in the cache."""
        parts, length = self._parts, len(buffer) // self._parts
        repeats = max(1, self._streamed // (len(buffer) * _FLOAT))
        rows = buffer[: parts * length].view(parts, 1, length).expand(parts, repeats, length)
        out = torch.empty(parts, repeats, device=self._device)
        return Stream(lambda: torch.sum(rows, -1, out=out), rows.numel() * _FLOAT)


def _runs(call: Callable[[], object]) -> bool:
    """Whether torch has it: of short types it does not have every operator on every processor."""
    try:
        call()
    except RuntimeError:
        return False
    return True


def cpu_bench(dtype: str) -> Bench:
    """Footprints from 32 KiB by twos to three times the last-level cache, or to an eighth of the free memory."""
    threads, cache = torch.get_num_threads(), last_level_bytes(torch.get_num_threads())
    most = min(3 * cache, (free_bytes("cpu") or _UNKNOWN_FREE) // 8)
    return TorchBench("cpu", dtype, (128, 256, 512, 1024, 2048), _by_twos(_SMALLEST, most), cache, host_timer(),
                      parts=threads)  # fmt: skip


def _by_twos(first: int, last: int) -> list[int]:
    steps = [first << power for power in range(64) if first << power < last]
    return [*steps, max(first, last // _SMALLEST * _SMALLEST)]


def host_timer(clock: Callable[[], float] = time.perf_counter) -> Timer:
    """Seconds a call by the host's clock."""

    def seconds(call: Callable[[], object], calls: int) -> float:
        start = clock()
        for _ in range(calls):
            call()
        return (clock() - start) / calls

    return seconds


def cuda_bench(device: str, dtype: str) -> Bench:
    """Footprints within the L2 cache and beyond it, products of growing sizes, each in an eighth of the free memory."""
    free = (free_bytes(device) or _UNKNOWN_FREE) // 8
    cache = int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)) or 64 * MIB
    footprints = cuda_footprints(cache, free)
    width = 3 * _DTYPES[dtype].itemsize
    sizes = [size for size in (1024, 2048, 4096, 8192, 16384) if size * size * width <= free] or [512]
    return TorchBench(device, dtype, sizes, footprints, cache, cuda_timer(), streamed=min(free, _STREAMED_ON_CUDA))


def cuda_footprints(cache: int, most: int) -> list[int]:
    """From an eighth of the L2 cache by twos to sixteen times it, and at most `most` bytes."""
    steps = [cache * eighths // 8 // _SMALLEST * _SMALLEST for eighths in (1, 2, 4, 8, 16, 32, 128)]
    fitting = sorted({max(_SMALLEST, step) for step in steps if step <= most})
    return fitting or [_SMALLEST]


def cuda_timer(event: Callable[..., Any] = torch.cuda.Event) -> Timer:
    """Seconds a call between two events on the device.

    One call goes before the first event: while it runs the host queues the others, so that no launch is timed.
    """

    def seconds(call: Callable[[], object], calls: int) -> float:
        start, stop = event(enable_timing=True), event(enable_timing=True)
        call()
        start.record()
        for _ in range(calls):
            call()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / calls / 1e3

    return seconds


@contextmanager
def in_tf32(wanted: bool) -> Iterator[None]:
    """Matrix products of fp32 on the tensor cores' 19 bits, or on all 32."""
    before = _set_tf32(wanted)
    try:
        yield
    finally:
        _set_tf32(before)


def _set_tf32(wanted: bool) -> bool:
    """Switch it, and say how it stood; newer torch warns of this switch, which older torch has alone."""
    matmul = torch.backends.cuda.matmul
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, matmul.allow_tf32 = bool(matmul.allow_tf32), wanted
    return before
