"""Peaks from a machine whose rates are known, and the real calls that they are measured with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_cuda import FakeCuda
from hypothesis import given
from hypothesis import strategies as st
from roof_samples import CACHE, LADDER, PEAKS, peaks_of

from attnbench.core.units import KIB, MIB
from attnbench.metrics.roof import bench as benches
from attnbench.metrics.roof import last_level
from attnbench.metrics.roof.bench import (
    TorchBench,
    cpu_bench,
    cuda_bench,
    cuda_footprints,
    cuda_timer,
    host_timer,
    in_tf32,
)
from attnbench.metrics.roof.last_level import last_level_bytes
from attnbench.metrics.roof.peaks import Found, Peaks, Rung, Stream, find_peaks

FOOTPRINTS = tuple(32 * KIB << power for power in range(11))  # to 32 MiB


class Machine:
    """A device whose products and streams take the time that its rates say, by a clock that only they move."""

    def __init__(self, flops: Callable[[int], float] = lambda size: 1e11,
                 slowed: Callable[[float], float] = lambda now: 1, scale: float = 1.0) -> None:  # fmt: skip
        self.now, self.sizes, self.footprints, self.cache_bytes = 0.0, (128, 256, 512, 1024, 2048), FOOTPRINTS, CACHE
        self._flops, self._slowed, self._scale = flops, slowed, scale
        self.asked: list[int] = []

    def clock(self) -> float:
        return self.now

    def _taking(self, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.now += seconds * self._slowed(self.now) * self._scale

        return call

    def products(self, size: int) -> Mapping[str, Callable[[], object]]:
        self.asked.append(size)
        work = 2 * size**3
        return {"product": self._taking(work / self._flops(size)), "other": self._taking(2 * work / self._flops(size))}

    def rate(self, footprint: int) -> float:
        return 100e9 if footprint <= MIB else 30e9 if footprint <= CACHE else 10e9

    def streams(self, footprint: int) -> Mapping[str, Stream]:
        self.asked.append(footprint)
        rates = {"fill": 0.5, "copy": 0.8, "read": 1.0}
        return {name: Stream(self._taking(footprint / (share * self.rate(footprint))), footprint)
                for name, share in rates.items()}  # fmt: skip

    def seconds(self, call: Callable[[], object], calls: int) -> float:
        start = self.now
        for _ in range(calls):
            call()
        return (self.now - start) / calls


def found_on(machine: Machine, seconds: float = 2.0) -> Found:
    return find_peaks(machine, seconds, machine.clock)


def test_the_rates_of_the_machine_come_out() -> None:
    machine = Machine(lambda size: {256: 9e10, 512: 1.2e11}.get(size, 5e10))
    found = found_on(machine)
    assert (found.flops_per_s, found.product) == (pytest.approx(1.2e11), "product of 512 x 512")
    assert [rung.footprint for rung in found.ladder] == list(FOOTPRINTS)
    for rung in found.ladder:
        rate = machine.rate(rung.footprint)
        assert (rung.copy, rung.read, rung.fill) == pytest.approx((0.8 * rate, rate, 0.5 * rate))


def test_it_takes_about_the_time_it_was_given() -> None:
    machine = Machine()
    found_on(machine)
    assert 2.0 <= machine.now < 2.3


def test_a_disturbance_of_most_of_the_time_does_not_show() -> None:
    """Three times slower for seven tenths of each second."""
    quiet, machine = found_on(Machine()), Machine(slowed=lambda now: 1 if now % 1.0 > 0.7 else 3)
    found = found_on(machine, 6.0)
    assert found.flops_per_s == pytest.approx(quiet.flops_per_s)
    assert [rung.best for rung in found.ladder] == pytest.approx([rung.best for rung in quiet.ladder])


def test_products_stop_growing_where_they_would_take_too_long() -> None:
    """At 10 GFLOP/s 256 x 256 takes 6.7 ms by the slower way: eight times of that is more than a fortieth of 2 s."""
    machine = Machine(lambda size: 1e10)
    found_on(machine)
    assert [size for size in machine.asked if size < 32 * KIB] == [128, 256]


def test_a_slow_machine_measures_past_its_cache_and_no_further() -> None:
    machine = Machine(scale=100.0)
    found = found_on(machine)
    assert found.ladder[-1].footprint == 2 * CACHE
    assert found.product == "product of 128 x 128"


@pytest.mark.parametrize(
    ("footprint", "rate"),
    [(1, 99e9), (KIB, 99e9), (KIB + 1, 99e9), (MIB, 99e9), (MIB + 1, 10e9), (32 * MIB, 10e9), (10**12, 10e9)],
)
def test_the_bandwidth_is_the_best_of_footprints_as_long_or_longer(footprint: int, rate: float) -> None:
    assert PEAKS.bandwidth(footprint) == rate
    assert PEAKS.memory_bandwidth == 10e9
    assert PEAKS.beyond_caches and not replace(PEAKS, ladder=LADDER[:2]).beyond_caches


@given(st.lists(st.tuples(*[st.floats(1e6, 1e13)] * 3), min_size=1, max_size=12), st.lists(st.integers(1, 2**40)))
def test_a_smaller_footprint_is_never_slower(rates: list[tuple[float, float, float]], asked: list[int]) -> None:
    peaks = peaks_of(*(Rung(KIB << place, *each) for place, each in enumerate(rates)))
    found = [peaks.bandwidth(footprint) for footprint in sorted(asked)]
    assert found == sorted(found, reverse=True)


def test_two_measurements_are_joined_by_what_was_reached_in_either() -> None:
    other = peaks_of(Rung(KIB, 50e9, 10e9, 10e9), Rung(64 * MIB, 7e9, 7e9, 7e9), flops_per_s=3e11, product="better",
                     disturbed=True)  # fmt: skip
    joined = PEAKS.joined(other)
    assert (joined.flops_per_s, joined.product, joined.disturbed) == (3e11, "better", False)
    assert joined.ladder == (Rung(KIB, 50e9, 90e9, 30e9), *LADDER[1:], Rung(64 * MIB, 7e9, 7e9, 7e9))
    assert other.joined(PEAKS).ladder == joined.ladder


def test_json_there_and_back() -> None:
    assert Peaks.from_dict(json.loads(json.dumps(PEAKS.to_dict()))) == PEAKS


def caches_of(root: Path, cpu: int, *caches: tuple[int, str, str, str]) -> None:
    for place, (level, kind, size, shared) in enumerate(caches):
        index = root / f"cpu{cpu}" / "cache" / f"index{place}"
        index.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
            (index / name).write_text(f"{text}\n")


@pytest.mark.parametrize(("threads", "size"), [(1, 32 * MIB), (2, 64 * MIB), (16, 64 * MIB)])
def test_last_level_caches_are_added_up_once_each(
    threads: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four CPUs on two dies with a cache of 32 MiB each."""
    monkeypatch.setattr(last_level, "own_cpus", lambda: (0, 1, 2, 3))
    for cpu in range(4):
        die = "0-1" if cpu < 2 else "2-3"
        caches_of(tmp_path, cpu, (1, "Data", "48K", str(cpu)), (1, "Instruction", "64M", str(cpu)),
                  (2, "Unified", "2048K", str(cpu)), (3, "Unified", "32768K", die))  # fmt: skip
    assert last_level_bytes(threads, tmp_path) == size


def test_without_a_third_level_it_is_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_level, "own_cpus", lambda: (0,))
    caches_of(tmp_path, 0, (1, "Data", "64K", "0"), (2, "Unified", "4M", "0"), (3, "Unified", "much", "0"))
    assert last_level_bytes(4, tmp_path) == 4 * MIB


def test_where_nobody_tells_the_cache_it_is_a_usual_one(tmp_path: Path) -> None:
    assert last_level_bytes(4, tmp_path / "nothing") == 32 * MIB


@pytest.mark.parametrize(
    ("cached", "free", "last"),
    [(MIB, 10**12, 3 * MIB), (MIB, 8 * 2 * MIB, 2 * MIB), (MIB, None, 3 * MIB), (MIB, 100, 32 * KIB)],
)
def test_footprints_of_a_cpu(cached: int, free: int | None, last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "last_level_bytes", lambda threads: cached)
    monkeypatch.setattr(benches, "free_bytes", lambda device: free)
    found = cpu_bench("fp32")
    assert (found.footprints[0], found.footprints[-1], found.cache_bytes) == (32 * KIB, last, cached)
    assert all(2 * early >= late > early for early, late in zip(found.footprints, found.footprints[1:], strict=False))


@pytest.mark.parametrize(
    ("l2", "most", "footprints"),
    [
        (48 * MIB, 10**12, [6, 12, 24, 48, 96, 192, 768]),
        (48 * MIB, 100 * MIB, [6, 12, 24, 48, 96]),
        (4 * MIB, 3 * MIB, [0.5, 1, 2]),
        (4 * MIB, 100, [1 / 32]),
    ],
)
def test_footprints_of_a_gpu_are_within_its_l2_and_beyond(l2: int, most: int, footprints: list[float]) -> None:
    assert cuda_footprints(l2, most) == [size * MIB for size in footprints]


@pytest.mark.parametrize(
    ("free", "l2", "dtype", "sizes", "cached"),
    [
        (140 * 1024 * MIB, 50 * MIB, "bf16", [1024, 2048, 4096, 8192, 16384], 50 * MIB),
        (8 * 1024 * MIB, 0, "fp32", [1024, 2048, 4096, 8192], 64 * MIB),  # 8192 takes 768 MiB, an eighth is 1 GiB
        (8 * 10 * MIB, 4 * MIB, "fp32", [512], 4 * MIB),
    ],
)
def test_products_of_a_gpu_fit_into_an_eighth_of_what_is_free(
    free: int, l2: int, dtype: str, sizes: list[int], cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}

    def bench(device: str, dtype: str, sizes: Any, footprints: Any, cached: int, timer: Any, streamed: int) -> None:
        made.update(device=device, dtype=dtype, sizes=sizes, cached=cached, longest=max(*footprints, streamed))

    monkeypatch.setattr(benches, "TorchBench", bench)
    monkeypatch.setattr(benches, "free_bytes", lambda device: free)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=l2))
    cuda_bench("cuda:1", dtype)
    longest = made.pop("longest")
    assert made == {"device": "cuda:1", "dtype": dtype, "sizes": sizes, "cached": cached}
    assert longest <= free // 8


def test_a_gpu_is_timed_by_events_around_the_block() -> None:
    cuda = FakeCuda()

    def event(enable_timing: bool) -> Any:
        made: Any = cuda.Event(enable_timing=enable_timing)
        made.synchronize = cuda.synchronize
        return made

    seconds = cuda_timer(event)(lambda: cuda.launch(0.01, 2.0), 10)
    assert seconds == pytest.approx(2.0e-3)  # and not the hundredth of a millisecond that a launch takes
    assert cuda.host == pytest.approx(22.01)  # waited for: one call and ten


def test_a_cpu_is_timed_by_the_hosts_clock() -> None:
    now = [5.0]

    def call() -> None:
        now[0] += 0.25

    assert host_timer(lambda: now[0])(call, 8) == 0.25


def test_the_switch_of_tf32_stands_as_before() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    for wanted in (True, False):
        with in_tf32(wanted):
            assert matmul.allow_tf32 is wanted
        assert matmul.allow_tf32 is before


def real_bench(dtype: str = "fp32", parts: int = 1) -> TorchBench:
    return TorchBench("cpu", dtype, (64,), (4 * KIB, 64 * KIB), 16 * KIB, host_timer(), parts=parts, streamed=32 * KIB)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_both_products_are_of_the_same_two_matrices(dtype: str) -> None:
    """The convolution is B A and the matrix product A B: two matrices with one trace."""
    products = real_bench(dtype).products(64)
    product, pixels = (torch.as_tensor(call()).double().reshape(64, 64) for call in products.values())
    assert product.std() > 0.3  # of 64 products of two numbers of variance 1/12
    assert float(product.trace()) == pytest.approx(float(pixels.trace()), abs=0.3)
    assert not torch.allclose(product, pixels, atol=0.1)


def test_a_convolution_that_torch_does_not_have_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(torch, "conv2d", refuse)
    assert list(real_bench("fp16").products(64)) == ["matrix product"]


@pytest.mark.parametrize(("footprint", "repeats", "parts"), [(4 * KIB, 8, 1), (4 * KIB, 8, 3), (64 * KIB, 1, 2)])
def test_streams_move_the_bytes_they_say(footprint: int, repeats: int, parts: int) -> None:
    streams = real_bench(parts=parts).streams(footprint)
    filled: Any = streams["fill"].call()
    assert filled.unique().tolist() == [1.0]
    assert streams["fill"].bytes == streams["copy"].bytes == footprint
    filled[: len(filled) // 2] = 3.0
    copied: Any = streams["copy"].call()
    assert copied.unique().tolist() == [3.0] and copied.numel() * 2 == filled.numel()
    sums: Any = streams["read"].call()
    length = footprint // 4 // parts
    assert sums.tolist() == [[3.0 * length] * repeats] * parts
    assert streams["read"].bytes == repeats * parts * length * 4
