"""The largest size that fits: the search against functions with a known answer, predictions against sums by hand."""

from collections.abc import Callable, Iterator
from math import isqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.core.case import Case
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.fit import Fit
from attnbench.core.units import GIB, MIB
from attnbench.engine.fit import fit, free_memory, in_tokens, most_memory, starting_case
from attnbench.engine.fit_search import Found, Trial, search
from attnbench.engine.workers.channels import InlineChannel

CHANNEL = InlineChannel()
MEMORY = 100 * MIB


def tried(
    peak: Callable[[int], int],
    memory: int,
    start: int,
    limit: int = 46_340,
    accepts: Callable[[int], bool] = lambda size: True,
) -> Found[None]:
    def attempt(size: int) -> Trial[None]:
        assert 1 <= size <= limit
        if accepts(size):
            return Trial(size, peak(size))
        return Trial(size, None, refused=True)

    return search(attempt, memory, start, limit)


def sizes(found: Found[None]) -> tuple[int | None, int | None]:
    return (found.largest.size if found.largest else None), (found.beyond.size if found.beyond else None)


@given(
    growth=st.lists(st.integers(0, 1000), min_size=1, max_size=300),
    memory=st.integers(1, 40_000),
    start=st.integers(1, 300),
    first=st.integers(1, 500),
)
def test_any_peak_that_never_falls_gives_the_largest_size(
    growth: list[int], memory: int, start: int, first: int
) -> None:
    peaks = [first]
    for more in growth:
        peaks.append(peaks[-1] + more)
    limit = len(peaks)
    found = tried(lambda size: peaks[size - 1], memory, min(start, limit), limit)
    fitting = [size for size in range(1, limit + 1) if peaks[size - 1] <= memory]
    too_large = [size for size in range(1, limit + 1) if peaks[size - 1] > memory]
    assert sizes(found) == (max(fitting, default=None), min(too_large, default=None))


@given(
    weights=st.integers(0, 2**30),
    factor=st.integers(1, 10_000),
    power=st.sampled_from([1, 2, 3, 4]),
    memory=st.integers(2**20, 2**40),
)
def test_a_power_with_weights_is_found_in_few_trials(weights: int, factor: int, power: int, memory: int) -> None:
    found = tried(lambda size: weights + factor * size**power, memory, 32, 2**31 - 1)
    largest = sizes(found)[0]
    assert largest is None or weights + factor * largest**power <= memory
    if found.beyond is not None and largest is not None:
        assert found.beyond.size == largest + 1
        assert weights + factor * (largest + 1) ** power > memory
    assert found.trials <= 35


@pytest.mark.parametrize(
    ("peak", "start", "most"),
    [
        (lambda s: 4 * (2 * s**4 + 4 * 64 * s**2) + 20_804, 32, 10),  # an N x N map twice, and some maps
        (lambda s: 4 * 4 * 64 * s**2 + 82_944, 32, 10),  # maps alone
        (lambda s: 553_430_176 + 2 * 4 * 64 * s**2, 224, 12),  # a network whose weights hide its maps
    ],
)
def test_what_attentions_need_is_searched_in_a_dozen_trials(peak: Callable[[int], int], start: int, most: int) -> None:
    found = tried(peak, 80 * GIB, start)
    largest, beyond = sizes(found)
    assert largest is not None
    assert beyond == largest + 1
    assert peak(largest) <= 80 * GIB < peak(beyond)
    assert found.trials <= most


@given(
    step=st.sampled_from([2, 3, 4, 7, 8, 14, 16, 28, 32, 56, 64, 112, 224]),
    times=st.integers(1, 4),
    memory=st.integers(1, 10**10),
)
def test_a_module_that_takes_only_multiples_is_asked_for_multiples(step: int, times: int, memory: int) -> None:
    found = tried(lambda size: size * size, memory, step * times, accepts=lambda size: size % step == 0)
    best = min(isqrt(memory), 46_340) // step * step
    assert sizes(found)[0] == (best or None)
    if best and best + step <= 46_340:
        assert sizes(found) == (best, best + step)
        assert found.step == step


@given(start=st.integers(0, 10), memory=st.integers(1, 10**10))
def test_a_module_that_takes_only_powers_of_two(start: int, memory: int) -> None:
    found = tried(lambda size: size * size, memory, 2**start, accepts=lambda size: size & (size - 1) == 0)
    assert sizes(found)[0] == 2 ** (min(isqrt(memory), 46_340).bit_length() - 1)


@given(ceiling=st.integers(32, 40_000), memory=st.integers(32 * 32, 10**10))
def test_a_refusal_of_everything_larger_is_a_ceiling_and_not_a_lack_of_memory(ceiling: int, memory: int) -> None:
    found = tried(lambda size: size * size, memory, 32, accepts=lambda size: size <= ceiling)
    assert sizes(found)[0] == min(ceiling, isqrt(memory))
    assert found.beyond is not None
    assert found.beyond.size == sizes(found)[0] + 1
    assert found.beyond.refused == (isqrt(memory) >= ceiling)


def test_one_size_alone_is_said_to_be_the_only_one() -> None:
    found = tried(lambda size: size, 10**6, 224, accepts=lambda size: size == 224)
    assert (sizes(found), found.step) == ((224, None), 0)
    assert sizes(tried(lambda size: size, 100, 224, accepts=lambda size: size == 224)) == (None, 224)


def test_nothing_fits_is_shown_at_the_smallest_size_that_is_accepted() -> None:
    found = tried(lambda size: 10**9 + size, 10**6, 224, accepts=lambda size: size >= 32)
    assert sizes(found) == (None, 32)


def test_what_always_fits_ends_the_search() -> None:
    assert sizes(tried(lambda size: 5, 10, 32)) == (46_340, None)


def test_a_size_that_cannot_be_predicted_is_the_end_of_what_is_known() -> None:
    def attempt(size: int) -> Trial[None]:
        return Trial(size, size if size <= 100 else None)

    found = search(attempt, 10**6, 32, 46_340)
    assert sizes(found) == (100, 101)
    assert found.beyond is not None
    assert not found.beyond.refused
    assert sizes(search(attempt, 10**6, 200, 46_340)) == (None, 200)


OWN = """
import torch
from torch import nn


class Doubled(nn.Module):
    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        b, c, h, w = x.shape
        return x + x


class Windows(Doubled):
    def forward(self, x):
        b, c, h, w = x.shape
        x.view(b, c, h // 7, 7, w // 7, 7)
        return x + x


class Pairs(Doubled):
    def forward(self, x):
        b, n, c = x.shape
        return x[:, :, :1] + x[:, :, :1].transpose(1, 2)


class Positions(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1000, dim))

    def forward(self, x):
        b, n, c = x.shape
        if n > 1000:
            raise ValueError("longer than the table")
        return x + self.table[:n]


class Fixed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(dim, 14, 14))

    def forward(self, x):
        b, c, h, w = x.shape
        return x + self.table


class Looks(Doubled):
    def forward(self, x):
        return x + x if x.sum().item() > 0 else x
"""


@pytest.fixture(autouse=True)
def _own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield


def case(name: str, side: int = 32, **fields: object) -> Case:
    return Case(f"own.py:{name}", height=side, width=side, tokens=side * side, dim=64).with_(**fields)


def largest(name: str, asked: str = "size", memory: int = MEMORY, **fields: object) -> Fit:
    ready = starting_case(case(name, **fields), CHANNEL, fixed=False)
    if asked == "size":
        (ready,) = in_tokens([ready], CHANNEL)
    return fit(ready, asked, memory, CHANNEL)  # type: ignore[arg-type]


def test_the_largest_map_of_an_addition_is_a_sum_done_by_hand() -> None:
    """Input and output are alive, 64 channels of 4 bytes each: 512 bytes a position; 104,857,600 / 512 = 204,800."""
    found = largest("Doubled")
    assert found.verdict == "found"
    assert found.largest is not None
    assert found.beyond is not None
    assert found.largest.case.size == "452x452"  # 452^2 = 204,304; 453^2 = 205,209
    assert found.peak == 204_304 * 512
    assert found.beyond.case.size == "453x453"
    assert found.excess == (205_209 - 204_800) * 512


@pytest.mark.parametrize(("batch", "dtype", "side"), [(4, "fp32", 226), (1, "bf16", 640), (1, "fp16", 640)])
def test_a_batch_and_half_precision_count(batch: int, dtype: str, side: int) -> None:
    """isqrt(204,800 / 4) = 226; two bytes an element: isqrt(409,600) = 640, to the last byte."""
    found = largest("Doubled", batch_size=batch, dtype=dtype)
    assert found.largest is not None
    assert found.largest.case.size == f"{side}x{side}"


def test_the_largest_batch_of_an_addition_is_a_sum_done_by_hand() -> None:
    """1,024 positions take 512 KiB: 200 of them are 100 MiB to the last byte."""
    found = largest("Doubled", "batch")
    assert found.largest is not None
    assert found.largest.case.batch_size == 200
    assert found.peak == MEMORY
    assert found.excess == 512 * 1024
    assert largest("Doubled", "batch", memory=MEMORY - 1).largest.case.batch_size == 199  # type: ignore[union-attr]


def test_a_map_of_pairs_is_searched_in_tokens() -> None:
    """4 N^2 + 256 N bytes: N = 5,088 takes 104,853,504 of 104,857,600, one more takes 104,894,468."""
    found = largest("Pairs")
    assert found.largest is not None
    assert (found.largest.case.tokens, found.largest.case.height) == (5_088, None)
    assert found.peak == 104_853_504
    assert found.excess == 104_894_468 - MEMORY


def test_windows_of_seven_get_a_multiple_of_seven() -> None:
    found = largest("Windows")
    assert found.case.height == 56  # 32 and 64 are refused
    assert found.largest is not None
    assert found.beyond is not None
    assert (found.largest.case.height, found.beyond.case.height, found.step) == (448, 455, 7)


def test_a_table_of_positions_is_a_ceiling() -> None:
    found = largest("Positions", memory=GIB, tokens=512, height=None, width=None)
    assert found.verdict == "ceiling"
    assert found.largest is not None
    assert found.beyond is not None
    assert found.largest.case.tokens == 1000
    assert found.beyond.case.tokens == 1001
    assert "longer than the table" in found.beyond.reason


def test_a_module_of_one_size() -> None:
    found = largest("Fixed")
    assert found.verdict == "only"
    assert found.largest is not None
    assert found.largest.case.size == "14x14"


def test_a_network_whose_weights_alone_are_too_large() -> None:
    """VGG16 has 138,357,544 parameters: 528 MiB; it takes no image below 32x32."""
    image = Case("vgg16", kind="network", height=224, width=224)
    found = fit(starting_case(image, CHANNEL, fixed=False), "size", MEMORY, CHANNEL)
    assert found.verdict == "none"
    assert found.beyond is not None
    assert found.beyond.case.size == "32x32"
    assert found.excess is not None
    assert found.excess > 4 * 138_357_544 - MEMORY


def test_what_looks_at_values_cannot_be_told() -> None:
    found = fit(starting_case(case("Looks"), CHANNEL, fixed=True), "size", MEMORY, CHANNEL)
    assert found.verdict == "unknown"
    assert found.beyond is not None
    assert "cannot run on fake tensors" in found.beyond.reason


def test_a_size_that_the_user_named_is_not_replaced() -> None:
    with pytest.raises(UsageError, match="at 32x32"):
        starting_case(case("Windows"), CHANNEL, fixed=True)


def test_side_by_side_all_are_asked_in_one_unit() -> None:
    mixed = [starting_case(case(name), CHANNEL, fixed=False) for name in ("Pairs", "Doubled")]
    assert in_tokens(mixed, CHANNEL) == mixed
    assert [each.height for each in in_tokens(mixed[:1], CHANNEL)] == [None]


def test_the_memory_that_is_free_leaves_a_twentieth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.engine.workers.answer.free_bytes", lambda device: 1000)
    assert free_memory("cpu", CHANNEL) == 950
    monkeypatch.setattr("attnbench.engine.workers.answer.free_bytes", lambda device: None)
    with pytest.raises(CannotJudgeError, match="--memory"):
        free_memory("cpu", CHANNEL)


@pytest.mark.parametrize("memory", [0, 2**50 + 1])
def test_a_memory_that_nothing_has_is_refused(memory: int) -> None:
    with pytest.raises(UsageError, match="out of range"):
        most_memory(memory)
