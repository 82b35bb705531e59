"""The kernels of a step from canned activities; on a GPU, what each attention backend runs."""

import time
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from canned_kernels import MARK, CannedProfiler, event, in_a_row
from metrics_subjects import subject_of, values
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from attnbench.core.case import Case
from attnbench.core.record import Note
from attnbench.engine.measure import _not_measured
from attnbench.metrics import kernels
from attnbench.metrics.kernels import (
    Activity,
    activity_of,
    busy_ms,
    kernel_findings,
    measure_kernels,
    table,
    variation,
    without,
)
from attnbench.metrics.metric import Options, chosen
from attnbench.metrics.subject import Subject

GEMM, SOFTMAX, FILL = "sm90_xmma_gemm", "softmax_warp_forward", "FillFunctor"
FORWARD = [(GEMM, 10.0), (SOFTMAX, 4.0), (GEMM, 6.0)]


def on_cuda(mode: str = "fwd", **readings: float) -> Subject:
    subject = subject_of(lambda x: x * 2, (2, 3), where="cpu")
    subject.case = subject.case.with_(device="cuda", mode=mode)
    subject.readings = {f"latency.{name}": value for name, value in readings.items()}
    return subject


def said(profiler: Any, mode: str = "fwd", steps: int = 5) -> tuple[dict[str, Any], list[Note]]:
    return values(kernel_findings(on_cuda(mode), profiler, steps))


def test_what_does_not_overlap_is_busy_for_the_sum_and_gaps_are_not() -> None:
    assert busy_ms(in_a_row(FORWARD)) == pytest.approx(0.020)
    assert busy_ms([Activity("a", 0, 10), Activity("b", 500, 7)]) == pytest.approx(0.017)
    assert busy_ms([]) == 0


@pytest.mark.parametrize(
    ("intervals", "us"),
    [
        ([(0, 10), (5, 10)], 15),  # two streams
        ([(0, 10), (2, 3)], 10),  # one within the other
        ([(0, 10), (2, 3), (8, 4), (20, 1)], 13),
        ([(0, 10), (0, 10), (10, 10)], 20),
        ([(8, 4), (0, 10)], 12),  # in no order
    ],
)
def test_what_overlaps_counts_once(intervals: list[tuple[float, float]], us: float) -> None:
    """Against a count of the quarters of microseconds that any interval covers."""
    covered = {
        quarter for start, length in intervals for quarter in range(int(4 * start), int(4 * (start + length)))
    }
    assert busy_ms([Activity("k", start, length) for start, length in intervals]) == pytest.approx(us / 1000)
    assert len(covered) / 4 == us


def test_kernels_are_listed_by_name_with_calls_a_step_and_their_share() -> None:
    found = table([in_a_row(FORWARD), in_a_row([(GEMM, 12.0), (SOFTMAX, 4.0), (GEMM, 4.0)])])
    assert found == [
        {"name": GEMM, "kind": "kernel", "calls": 2, "ms": pytest.approx(0.016), "share": pytest.approx(0.8)},
        {"name": SOFTMAX, "kind": "kernel", "calls": 1, "ms": pytest.approx(0.004), "share": pytest.approx(0.2)},
    ]
    assert all(isinstance(each["calls"], int) for each in found)


def test_copies_and_fills_are_listed_as_what_they_are() -> None:
    step = [Activity("Memcpy DtoD (Device -> Device)", 0, 3, "memcpy"), Activity("Memset (Device)", 3, 1, "memset")]
    assert [(each["kind"], each["share"]) for each in table([step])] == [("memcpy", 0.75), ("memset", 0.25)]


def test_calls_that_vary_are_a_mean() -> None:
    found = table([in_a_row([(GEMM, 1.0), (FILL, 1.0)]), in_a_row([(GEMM, 1.0)])])
    assert {each["name"]: each["calls"] for each in found} == {GEMM: 1, FILL: 0.5}


def test_steps_that_run_the_same_do_not_vary_whatever_their_times() -> None:
    assert variation([in_a_row(FORWARD), in_a_row([(GEMM, 1.0), (GEMM, 2.0), (SOFTMAX, 9.0)])]) is None
    assert variation([in_a_row(FORWARD)]) is None


def test_a_step_that_differs_is_named() -> None:
    steps = [in_a_row(FORWARD), in_a_row(FORWARD), in_a_row(FORWARD[:2])]
    assert variation(steps) == f"{GEMM}: 2 in step 1, 1 in step 3"
    assert variation([in_a_row(FORWARD), in_a_row([*FORWARD, (FILL, 1.0)])]) == f"{FILL}: 0 in step 1, 1 in step 2"


def test_a_backward_is_what_is_left_of_a_step_without_its_forward() -> None:
    backward = [(FILL, 1.0), (GEMM, 20.0), ("softmax_warp_backward", 5.0), (GEMM, 21.0)]
    step = in_a_row([*FORWARD, *backward])
    left = without(step[::-1], in_a_row(FORWARD))
    assert [(each.name, each.duration_us) for each in left] == backward


def test_the_kernel_time_is_the_median_of_the_steps() -> None:
    slow = [(GEMM, 100.0), (SOFTMAX, 4.0), (GEMM, 6.0)]
    readings, notes = said(CannedProfiler(FORWARD, FORWARD, slow, FORWARD, FORWARD))
    assert readings["latency.kernel_ms"] == pytest.approx(0.020)
    assert [each["name"] for each in readings["kernels"]] == [GEMM, SOFTMAX]
    assert sum(each["share"] for each in readings["kernels"]) == pytest.approx(1)
    assert [note.kind for note in notes] == ["method"]
    assert "over 5 steps" in notes[0].text


def test_marks_are_no_kernels_of_the_step() -> None:
    readings, _ = said(CannedProfiler(FORWARD))
    assert MARK not in {each["name"] for each in readings["kernels"]}


@pytest.mark.parametrize("mode", ["fwd_bwd", "train"])
def test_a_whole_step_is_listed_whole(mode: str) -> None:
    profiler = CannedProfiler([*FORWARD, (FILL, 1.0)])
    readings, _ = said(profiler, mode)
    assert readings["latency.kernel_ms"] == pytest.approx(0.021)
    assert profiler.asked == [(("train" if mode == "train" else "forward_backward",), 5)]


def test_mode_bwd_lists_what_the_backward_runs() -> None:
    profiler = CannedProfiler([*FORWARD, (FILL, 1.0), (GEMM, 20.0)], forward=FORWARD)
    readings, notes = said(profiler, "bwd")
    assert profiler.asked == [(("forward_backward", "forward_kept"), 5)]
    assert {each["name"]: each["calls"] for each in readings["kernels"]} == {GEMM: 1, FILL: 1}
    assert readings["latency.kernel_ms"] == pytest.approx(0.021)
    assert [note.kind for note in notes] == ["method"]


def test_kernels_that_vary_are_said_and_listed_all_the_same() -> None:
    readings, notes = said(CannedProfiler(FORWARD, [*FORWARD, (FILL, 2.0)]), steps=2)
    assert readings["latency.kernel_ms"] == pytest.approx(0.021)
    (varies,) = (note.text for note in notes if note.kind == "kernels_vary")
    assert f"({FILL}: 0 in step 1, 1 in step 2)" in varies


@pytest.mark.parametrize(
    ("profiler", "why"),
    [
        (lambda *_: [], "the profiler saw no kernel of steps that ran: CUPTI is missing"),
        (lambda *_: in_a_row(FORWARD), "the profiler saw no kernel of steps that ran: CUPTI is missing"),
        (CannedProfiler(FORWARD, lead=0, lost=1), "the profiler lost kernels"),
        (CannedProfiler([]), "the step runs no kernel"),
        (CannedProfiler(FORWARD, forward=FORWARD), "the step runs no kernel"),
    ],
)
def test_what_was_not_seen_is_null_with_the_reason(profiler: Any, why: str) -> None:
    """The last of them is a backward alone that runs nothing beside its forward."""
    mode = "bwd" if isinstance(profiler, CannedProfiler) and profiler._forward else "fwd"
    readings, (note,) = said(profiler, mode)
    assert readings == {}
    assert note.kind == "not_measured"
    assert note.text.startswith(f"kernels, latency.kernel_ms: {why}")


def test_what_is_lost_of_the_lead_does_not_matter() -> None:
    assert said(CannedProfiler(FORWARD, lead=3, lost=3)) == said(CannedProfiler(FORWARD))


def test_a_profiler_that_fails_is_null_with_the_reason() -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES\nmore")

    readings, (note,) = said(fails)
    assert readings == {}
    assert note.text == (
        "kernels, latency.kernel_ms: the profiler failed (RuntimeError: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES)"
    )


def test_on_a_cpu_there_are_none() -> None:
    subject = subject_of(lambda x: x * 2, (2, 3), where="cpu")
    readings, (note,) = values(measure_kernels(subject, Options()))
    assert readings == {}
    assert note == Note("not_measured", "kernels, latency.kernel_ms: a CPU runs operators, no kernels; `show --by op` "
                                        "lists them")  # fmt: skip


def test_a_record_says_whether_anybody_was_asked_for_kernels() -> None:
    """Who measures the latency measures no kernels, although their time stands in its section."""
    without_them, with_them = (_not_measured(chosen(names)).text for names in (("latency",), ("latency", "kernels")))
    assert "latency.kernel_ms" in without_them and without_them.endswith(", kernels")
    assert "latency" not in with_them and "kernels" not in with_them
    assert "latency, " in _not_measured(chosen(("params",))).text


@pytest.mark.parametrize(
    ("cuda", "profiled"),
    [("12.6", True), ("12.8", True), ("13.0", True), (None, True), ("12.4", False), ("11.8", False)],
)
def test_a_profiler_that_would_stay_is_not_used(monkeypatch: pytest.MonkeyPatch, cuda: Any, profiled: bool) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(kernels, "_profiled", CannedProfiler(FORWARD))
    readings, notes = values(measure_kernels(on_cuda(), Options()))
    assert bool(readings) == profiled
    assert profiled or f"CUDA {cuda} stays in the process" in notes[0].text


@pytest.mark.parametrize(
    ("readings", "steps"),
    [({}, 5), ({"median_ms": 1.0}, 5), ({"median_ms": 500.0}, 4), ({"median_ms": 6e4}, 2), ({"median_ms": None}, 5)],
)
def test_long_steps_are_looked_at_less_often(
    monkeypatch: pytest.MonkeyPatch, readings: dict[str, Any], steps: int
) -> None:
    profiler = CannedProfiler(FORWARD)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(kernels, "_profiled", profiler)
    list(measure_kernels(on_cuda(**readings), Options(max_time=2.0)))
    assert profiler.asked == [(("forward",), steps)]


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (event(GEMM), "kernel"),
        (event(GEMM, activity_type="kernel"), "kernel"),
        (event(GEMM, activity_type=""), "kernel"),
        (event("Memcpy HtoD (Pageable -> Device)"), "memcpy"),
        (event("Memcpy HtoD (Pageable -> Device)", activity_type="gpu_memcpy"), "memcpy"),
        (event("Memset (Device)"), "memset"),
        (event("Memset (Device)", activity_type="gpu_memset"), "memset"),
        (event("Context Sync"), None),
        (event("Stream Wait Event", activity_type="cuda_sync"), None),
        (event("my range", activity_type="gpu_user_annotation"), None),
        (event("my range", is_user_annotation=True), None),
        (event("cudaLaunchKernel", device=DeviceType.CPU), None),
    ],
)
def test_of_a_profilers_events_those_are_taken_that_keep_the_device_busy(seen: Any, kind: str | None) -> None:
    found = activity_of(seen)
    assert (found and found.kind) == kind


def test_an_events_times_are_microseconds() -> None:
    assert activity_of(event(GEMM, 10.5, 14.0)) == Activity(GEMM, 10.5, 3.5)


def test_torchs_own_events_of_the_host_are_no_work_of_the_device() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as session:
        torch.ones(8, 8) @ torch.ones(8, 8)
    seen = list(session.events())
    assert any(each.name == "aten::mm" for each in seen)
    assert [activity_of(each) for each in seen] == [None] * len(seen)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def attends(backend: SDPBackend | None, tokens: int = 1024, mode: str = "fwd") -> Subject:
    """Attention of 16 heads of 64 channels in bf16; by one backend, or by whichever torch takes."""

    class Attends(nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            with nullcontext() if backend is None else sdpa_kernel(backend):
                return F.scaled_dot_product_attention(query, key, value)

    inputs = tuple(
        torch.randn(2, 16, tokens, 64, dtype=torch.bfloat16, device="cuda", requires_grad=mode != "fwd")
        for _ in range(3)
    )
    return Subject(Case("attends", mode=mode, dtype="bf16", device="cuda"), Attends(), inputs, "cuda")


def listed(subject: Subject) -> tuple[dict[str, int], float]:
    readings, notes = values(measure_kernels(subject, Options()))
    assert [note.kind for note in notes] == ["method"], notes
    return {each["name"]: each["calls"] for each in readings["kernels"]}, readings["latency.kernel_ms"]


@pytest.mark.gpu
@gpu
def test_on_a_gpu_each_attention_backend_shows_by_its_kernels() -> None:
    words = {SDPBackend.MATH: "softmax", SDPBackend.FLASH_ATTENTION: "flash_fwd",
             SDPBackend.EFFICIENT_ATTENTION: "fmha_cutlassF", SDPBackend.CUDNN_ATTENTION: "cudnn"}  # fmt: skip
    seen: dict[SDPBackend, frozenset[str]] = {}
    for backend, word in words.items():
        subject = attends(backend)
        try:
            subject.step()
        except RuntimeError:  # not on this GPU
            continue
        seen[backend] = frozenset(listed(subject)[0])
        assert any(word in name for name in seen[backend]), (backend, seen[backend])
    assert len(seen) >= 2
    assert len(set(seen.values())) == len(seen)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
def test_on_a_gpu_the_kernel_time_is_within_the_time_between_events(mode: str) -> None:
    subject = attends(None, 4096, mode)
    _, kernel_ms = listed(subject)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    subject.repeat(10)
    start.record()
    subject.repeat(50)
    stop.record()
    torch.cuda.synchronize()
    event_ms = start.elapsed_time(stop) / 50
    assert 0.8 * event_ms <= kernel_ms <= 1.02 * event_ms


@pytest.mark.gpu
@gpu
def test_on_a_gpu_a_backward_alone_is_the_rest_of_the_whole() -> None:
    backward, whole = (listed(attends(SDPBackend.FLASH_ATTENTION, mode=mode))[0] for mode in ("bwd", "fwd_bwd"))
    assert all(calls <= whole[name] for name, calls in backward.items())
    assert any("flash_fwd" in name for name in whole) and any("flash_bwd" in name for name in backward)
    assert not any("flash_fwd" in name for name in backward)


@pytest.mark.gpu
@gpu
def test_on_a_gpu_launches_are_as_fast_after_the_profiler_as_before() -> None:
    """CUPTI has left the process: the host queues small kernels as fast as it did."""
    x = torch.ones(8, device="cuda")

    def queue_us() -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(2000):
            x.add_(0)
        took = time.perf_counter() - begin
        torch.cuda.synchronize()
        return took / 2000 * 1e6

    before = min(queue_us() for _ in range(10))
    listed(attends(None))
    after = min(queue_us() for _ in range(10))
    assert after <= 1.05 * before
