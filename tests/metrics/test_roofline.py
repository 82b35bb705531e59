"""The roofline by hand: each figure, each bound, what is above the roof, and each reason for having none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from metrics_subjects import subject_of, values
from roof_samples import PEAKS
from torch import nn

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError
from attnbench.core.record import SECTIONS, Note, Reading
from attnbench.core.units import MIB, UNITS
from attnbench.engine.measure import measure
from attnbench.metrics import roofline
from attnbench.metrics.metric import Options, chosen, known
from attnbench.metrics.roof.peaks import Peaks
from attnbench.metrics.roofline import place_under_roof, times_of, under_roof, work_of
from attnbench.targets.resolve import resolve

# 2e9 FLOPs take 10 ms at 200 GFLOP/s; 50 MB take 5 ms at the 10 GB/s of what is longer than the ladder.
WORK: dict[str, Any] = {"static.macs": 10**9, "static.useful_macs": 10**9, "static.fft_flops": 0,
                        "static.uncounted_ops": {}, "static.macs_by_op": {"linear": 10**9},
                        "static.bytes_moved": 50 * 10**6}  # fmt: skip
TIME: dict[str, Any] = {"latency.median_ms": 40.0, "latency.ci_low_ms": 39.0, "latency.ci_high_ms": 41.0}


def under(readings: dict[str, Any], mode: str = "fwd", peaks: Peaks = PEAKS) -> tuple[dict[str, Any], list[Note]]:
    found, notes = values(under_roof(work_of(mode, readings), times_of(readings), peaks))
    return {name.removeprefix("roofline."): value for name, value in found.items()}, notes


def test_every_figure_by_hand() -> None:
    found, notes = under(WORK | TIME)
    assert notes == []
    assert found["roof_ms"] == 10.0
    assert found["percent_of_roof"] == 25.0
    assert found["intensity"] == 40.0
    assert found["bound"] == "compute"
    assert (found["flops_per_s"], found["bytes_per_s"]) == pytest.approx((50e9, 1.25e9))
    assert (found["peak_flops_per_s"], found["peak_bytes_per_s"]) == (2e11, 10e9)
    assert set(found) == {name for name in SECTIONS["roofline"] if not name.startswith("cold_")}
    assert "fp32 product (matrix product of 512 x 512)" in found["method"]
    assert "2026-01-02T03:04:05+00:00 with 2 threads" in found["method"]
    assert "buffers of 32.0 MiB or more;" in found["method"]


def test_memory_binds_where_its_part_of_the_roof_is_higher() -> None:
    found, _ = under(WORK | TIME | {"static.bytes_moved": 200 * 10**6})
    assert (found["bound"], found["roof_ms"], found["percent_of_roof"]) == ("memory", 20.0, 50.0)


def test_a_small_footprint_has_the_bandwidth_of_the_caches() -> None:
    """0.5 MB at 99 GB/s; without arithmetic there is nothing else."""
    readings = {"static.macs": 0, "static.useful_macs": 0, "static.bytes_moved": 500_000, "latency.median_ms": 0.01}
    found, notes = under(readings)
    assert notes == []
    assert (found["bound"], found["peak_bytes_per_s"], found["intensity"]) == ("memory", 99e9, 0.0)
    assert found["percent_of_roof"] == pytest.approx(100 * 500_000 / 99e9 / 1e-5)
    assert "buffers of 488.3 KiB or more" in found["method"]


def test_what_waits_for_the_host_is_bound_by_the_launches() -> None:
    assert under(WORK | TIME | {"latency.launch_bound": True})[0]["bound"] == "launch"
    assert under(WORK | TIME | {"latency.launch_bound": False})[0]["bound"] == "compute"


def test_ffts_count_with_the_products() -> None:
    found, _ = under(WORK | TIME | {"static.fft_flops": 6 * 10**9})
    assert (found["intensity"], found["roof_ms"]) == (8e9 / 50e6, 40.0)


@pytest.mark.parametrize("mode", ["fwd_bwd", "train"])
def test_a_backward_counts_by_its_mathematics(mode: str) -> None:
    found, _ = under(WORK | TIME | {"static.backward_macs": 2 * 10**9, "static.recomputed_macs": 10**9}, mode)
    assert (found["roof_ms"], found["percent_of_roof"]) == (30.0, 75.0)


def test_what_a_causal_flag_masks_is_no_work_in_either_direction() -> None:
    """Of 10^9 MACs 4 x 10^8 are masked: 6 x 10^8 forward and 12 x 10^8 backward are left, 18 ms of the roof."""
    readings = WORK | TIME | {"static.useful_macs": 6 * 10**8, "static.backward_macs": 2 * 10**9}
    assert under(readings)[0]["roof_ms"] == 6.0
    assert under(readings, "fwd_bwd")[0]["roof_ms"] == pytest.approx(18.0)


def test_macs_that_another_counter_found_serve_too() -> None:
    readings = {name: value for name, value in WORK.items() if name in ("static.macs", "static.bytes_moved")}
    assert under(readings | TIME)[0]["roof_ms"] == 10.0


def with_time(ms: float, half: float = 0.01) -> dict[str, Any]:
    return {"latency.median_ms": ms, "latency.ci_low_ms": ms * (1 - half), "latency.ci_high_ms": ms * (1 + half)}


@pytest.mark.parametrize(
    ("ms", "half", "kind"),
    [(10.0, 0.01, None), (10.1, 0.0, None), (9.95, 0.01, "at_roof"), (9.0, 0.12, "at_roof"), (9.85, 0.01, "impossible"),
     (9.99, 0.0, "impossible"), (1.0, 0.01, "impossible")],
)  # fmt: skip
def test_faster_than_the_roof_is_an_error_of_ours(ms: float, half: float, kind: str | None) -> None:
    found, notes = under(WORK | with_time(ms, half))
    assert [note.kind for note in notes] == ([kind] if kind else [])
    assert (found["percent_of_roof"] > 100) == bool(kind)


def test_a_time_without_an_interval_is_taken_as_it_is() -> None:
    found, notes = under(WORK | {"latency.median_ms": 9.9})
    assert (found["percent_of_roof"], [note.kind for note in notes]) == (pytest.approx(10000 / 99), ["impossible"])


def test_the_note_says_what_it_may_be() -> None:
    _, (plain,) = under(WORK | with_time(5.0))
    assert "faster than the compute roof" in plain.text and "attnbench doctor --fresh" in plain.text
    assert "Winograd" not in plain.text
    _, (convolution,) = under(WORK | with_time(5.0) | {"static.macs_by_op": {"convolution": 10**9}})
    assert "fewer multiplications than were counted (Winograd's, of a convolution)" in convolution.text
    assert "another type" not in convolution.text
    _, (half,) = under(WORK | with_time(5.0), peaks=replace(PEAKS, dtype="bf16"))
    assert "products in another type than bf16, or a roof" in half.text
    _, (memory,) = under(WORK | with_time(5.0) | {"static.bytes_moved": 10**9, "static.macs_by_op": {"convolution": 5}})
    assert "faster than the memory roof" in memory.text and "Winograd" not in memory.text
    _, (near,) = under(WORK | with_time(9.95))
    assert near.text != plain.text and "within the interval of its latency" in near.text


def test_a_roof_that_was_measured_on_a_busy_machine_is_doubted() -> None:
    _, notes = under(WORK | TIME, peaks=replace(PEAKS, disturbed=True))
    assert [note.kind for note in notes] == ["roof"]
    assert "may be too low" in notes[0].text and "attnbench doctor --fresh" in notes[0].text


def test_a_ladder_that_ends_within_the_cache_says_so_where_it_matters() -> None:
    short = replace(PEAKS, ladder=PEAKS.ladder[:2])
    assert "lie within the last-level cache" in under(WORK | TIME, peaks=short)[0]["method"]
    small = WORK | TIME | {"static.bytes_moved": 1000}
    assert "lie within the last-level cache" not in under(small, peaks=short)[0]["method"]
    assert "lie within the last-level cache" not in under(WORK | TIME)[0]["method"]


def test_cold_caches_are_held_against_the_memory_behind_them() -> None:
    """0.5 MB: 5.05 us warm, at 99 GB/s, and 50 us cold, at 10 GB/s."""
    small = WORK | {"static.macs": 0, "static.useful_macs": 0, "static.bytes_moved": 500_000}
    cold = {"latency.cold_ms": 0.1, "latency.cold_low_ms": 0.099, "latency.cold_high_ms": 0.101}
    found, notes = under(small | {"latency.median_ms": 0.05} | cold)
    assert notes == []
    assert found["percent_of_roof"] == pytest.approx(100 * 5e5 / 99e9 / 5e-5)
    assert (found["cold_roof_ms"], found["cold_percent_of_roof"]) == pytest.approx((0.05, 50.0))
    _, notes = under(small | {"latency.median_ms": 0.05} | cold | {"latency.cold_ms": 0.04})
    assert [(note.kind, "memory roof of cold caches" in note.text) for note in notes] == [("impossible", True)]


@pytest.mark.parametrize(
    ("mode", "changes", "reason"),
    [
        ("bwd", {}, "a backward alone"),
        ("fwd", {"static.macs": None}, "its MACs were not counted"),
        ("fwd", {"static.uncounted_ops": {"aten.odd": 2, "aten.even": 1}}, "for want of aten.even, aten.odd"),
        ("train", {"static.backward_macs": 9, "static.backward_uncounted_ops": {"aten.odd": 2}},
         "of its backward are a lower bound, for want of aten.odd"),
        ("fwd", {"static.bytes_moved": None}, "bytes that it must move were not counted"),
        ("fwd", {"static.bytes_moved": 0}, "a step that must move nothing has no roof"),
        ("fwd_bwd", {}, "MACs of its backward were not counted"),
        ("train", {"static.backward_macs": None}, "MACs of its backward were not counted"),
        ("fwd", {"latency.median_ms": None}, "its latency was not measured"),
    ],
)
def test_without_one_of_its_parts_there_is_no_roof(mode: str, changes: dict[str, Any], reason: str) -> None:
    readings = {name: value for name, value in (WORK | TIME | changes).items() if value is not None}
    with pytest.raises(UnsupportedError, match=reason):
        under(readings, mode)


def placed(readings: dict[str, Any], case: Case) -> tuple[dict[str, Any], list[Note]]:
    subject = subject_of(lambda x: x, (1,), where="cpu")
    subject.case, subject.readings = case, readings
    return values(place_under_roof(subject, Options()))


def test_the_instrument_asks_for_the_peaks_of_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def peaks(device: str, dtype: str) -> Peaks:
        asked.append((device, dtype))
        return PEAKS

    monkeypatch.setattr(roofline, "measured_peaks", peaks)
    found, notes = placed(WORK | TIME, Case("body", device="cuda:1", dtype="bf16"))
    assert asked == [("cuda:1", "bf16")]
    assert found["roofline.percent_of_roof"] == 25.0
    assert [note.kind for note in notes] == ["not_measured"]  # the cold one


@pytest.mark.parametrize(
    ("case", "readings", "reason"),
    [
        (Case("body", dtype="tf32"), WORK | TIME, "a CPU does not compute in tf32"),
        (Case("body", mode="bwd"), WORK | TIME, "a backward alone"),
        (Case("body"), WORK, "its latency was not measured"),
        (Case("body"), TIME, "its MACs were not counted"),
    ],
)
def test_null_comes_with_its_reason(case: Case, readings: dict[str, Any], reason: str) -> None:
    found, notes = placed(readings, case)
    assert found == {}
    assert [note.kind for note in notes] == ["not_measured"]
    assert notes[0].text.startswith("roofline: ") and reason in notes[0].text


def test_a_compiled_kernel_that_skips_what_its_mask_hides_has_no_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "measured_peaks", lambda *_: PEAKS)
    subject = subject_of(lambda core, x: core(x), (2, 3), parts=[lambda: nn.Linear(3, 3)])
    subject.module.parts[0].skips_masked = True  # type: ignore[union-attr, index]
    subject.readings = WORK | TIME
    assert "roofline.percent_of_roof" in values(place_under_roof(subject, Options()))[0]
    subject.case = Case("body", engine="compile")
    found, (note,) = values(place_under_roof(subject, Options()))
    assert (found, note.kind) == ({}, "not_measured")
    assert "skips the blocks that its mask hides" in note.text


def test_it_comes_last_and_brings_what_it_needs() -> None:
    assert known()["roofline"].on == "after"
    names = [each.name for each in chosen(("roofline",))]
    assert names[-1] == "roofline"
    assert {"macs", "backward_macs", "bytes_moved", "latency"} <= set(names)


@pytest.mark.parametrize(("value", "cell"), [(87.34, "87.3"), (100.0, "100"), (5.123, "5.1"), (0.0456, "0.046"),
                                             (104.6, "105")])  # fmt: skip
def test_the_percentage_is_a_column_with_two_or_three_digits(value: float, cell: str) -> None:
    found = under_roof(work_of("fwd", WORK), times_of(TIME), PEAKS)
    reading = next(each for each in found if isinstance(each, Reading))
    assert (reading.name, reading.title, reading.better) == ("roofline.percent_of_roof", "% of roof", "higher")
    assert UNITS[reading.unit].heading(reading.title) == "% of roof"
    assert UNITS[reading.unit].cell(value) == cell


def test_rates_are_printed_in_giga() -> None:
    units = [UNITS[name] for name in ("FLOP/s", "B/s", "FLOP/B")]
    assert [unit.heading("Peak") for unit in units] == ["Peak (GFLOP/s)", "Peak (GB/s)", "Peak (FLOP/B)"]
    assert [unit.cell(2.5e11) for unit in units[:2]] == ["250.0", "250.0"]


SIMAM = '''
import torch
from torch import nn


class SimAM(nn.Module):
    """Yang et al. 2021: sigmoid of an energy of each pixel, without parameters and without products."""

    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        square = (x - x.mean((2, 3), keepdim=True)).pow(2)
        spread = square.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
        return x * torch.sigmoid(square / (4 * (spread + 1e-4)) + 0.5)
'''


@pytest.mark.parametrize("target", ["sdpa", "self_attn", "simam"])
def test_a_real_case_is_under_the_roof_or_flagged(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "simam.py").write_text(SIMAM)
    name = "simam.py:SimAM" if target == "simam" else target
    case = resolve(Case(name, height=16, width=16, tokens=256, dim=32))
    found, notes = values(measure(case, Options(metrics=("roofline",), max_time=0.05)))
    percent, kinds = found["roofline.percent_of_roof"], {note.kind for note in notes}
    assert 0 < percent <= 100 or kinds & {"at_roof", "impossible"}
    assert found["roofline.intensity"] > 1 or target == "simam"
    if target == "simam":
        assert found["static.bytes_moved"] == 2 * 32 * 256 * 4
        assert (found["roofline.bound"], found["roofline.flops_per_s"]) == ("memory", 0)
    assert found["roofline.peak_flops_per_s"] > 1e8
    assert found["roofline.peak_bytes_per_s"] > 1e7
    assert known()["roofline"].fields == ("roofline",) and found["static.bytes_moved"] < MIB
