"""Predicting for CUDA: kernels, blocks, workspaces and scratch by hand; on a GPU against its allocator."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from memory_cases import MODULE_MODES
from metrics_subjects import subject_of, values
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as imported_attention

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError
from attnbench.core.record import Note
from attnbench.metrics.footprint.attention_kernels import as_on_cuda, kernel_on_cuda
from attnbench.metrics.footprint.calls import described
from attnbench.metrics.footprint.cuda_allocator import blas_workspace, keeps_workspace, kernel_scratch
from attnbench.metrics.footprint.live_bytes import LiveBytes, storage_bytes
from attnbench.metrics.footprint.prediction import Prediction, predict
from attnbench.metrics.memory import measure_memory, predict_memory
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject
from attnbench.targets.build import build
from attnbench.targets.fake import fake_device, fake_tensors
from attnbench.targets.resolve import resolve

absent = pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without CUDA")
MIB = 2**20


def heads(dim: int = 64, dtype: torch.dtype = torch.bfloat16, of: int = 4) -> Tensor:
    return torch.empty(2, of, 128, dim, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("query", "settings", "kernel"),
    [
        (heads(), {}, "flash"),
        (heads(dtype=torch.float16), {}, "flash"),
        (heads(dim=256), {}, "flash"),
        (heads(dim=264), {}, "efficient"),
        (heads(dtype=torch.float32), {}, "efficient"),
        (heads(), {"mask": torch.empty(128, 128, device="meta")}, "efficient"),
        (heads(dim=30, dtype=torch.float32), {}, "math"),
        (heads(dtype=torch.float64), {}, "math"),
        (heads()[0], {}, "math"),
    ],
)
def test_the_kernel_is_chosen_as_torch_documents_it(query: Tensor, settings: Any, kernel: str) -> None:
    assert kernel_on_cuda(query, query, query, **settings) == kernel


def test_grouped_heads_are_for_flash_alone() -> None:
    few, few32 = heads(of=2), heads(of=2, dtype=torch.float32)
    assert kernel_on_cuda(heads(), few, few, grouped=True) == "flash"
    assert kernel_on_cuda(heads(dtype=torch.float32), few32, few32, grouped=True) == "math"


def test_a_kernel_that_is_switched_off_is_not_chosen() -> None:
    with torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.MATH]):
        assert kernel_on_cuda(heads(), heads(), heads()) == "math"


@pytest.mark.parametrize(
    ("allowed", "dtype", "kernel"),
    [("FLASH_ATTENTION", torch.bfloat16, "flash"), ("EFFICIENT_ATTENTION", torch.bfloat16, "efficient"),
     ("EFFICIENT_ATTENTION", torch.float32, "efficient"), ("CUDNN_ATTENTION", torch.bfloat16, "cudnn"),
     ("MATH", torch.bfloat16, "math")],
)  # fmt: skip
def test_a_kernel_that_alone_is_allowed_is_chosen(allowed: str, dtype: torch.dtype, kernel: str) -> None:
    with sdpa_kernel(getattr(SDPBackend, allowed)):
        assert kernel_on_cuda(*[heads(dtype=dtype)] * 3) == kernel


@pytest.mark.parametrize("allowed", ["FLASH_ATTENTION", "CUDNN_ATTENTION"])
def test_a_kernel_that_alone_is_allowed_and_does_not_fit_is_no_other(allowed: str) -> None:
    with sdpa_kernel(getattr(SDPBackend, allowed)), pytest.raises(UnsupportedError, match="takes these inputs"):
        kernel_on_cuda(*[heads(dtype=torch.float32)] * 3)


def attends(attention: Callable[..., Tensor], dtype: torch.dtype, **settings: Any) -> tuple[set[str], Tensor]:
    x = torch.zeros(2, 4, 256, 64, dtype=dtype, requires_grad=True)
    with as_on_cuda() as seen:
        y = attention(x, x, x, **settings)
    torch.autograd.grad(y, x, torch.ones_like(y))
    return set(seen), y


@pytest.mark.parametrize("attention", [imported_attention, lambda *q, **k: F.scaled_dot_product_attention(*q, **k)])
def test_attention_is_replaced_however_it_was_imported(attention: Callable[..., Tensor]) -> None:
    with fake_tensors():
        assert attends(attention, torch.bfloat16, is_causal=True)[0] == {"flash"}
        assert attends(attention, torch.float32)[0] == {"efficient"}
        assert attends(attention, torch.float32, attn_mask=torch.ones(256, 256, dtype=torch.bool))[0] == {"efficient"}
        seen, y = attends(attention, torch.bfloat16, dropout_p=0.1)
    assert (seen, tuple(y.shape), y.dtype) == ({"flash"}, (2, 4, 256, 64), torch.bfloat16)


def test_attention_inside_torchs_own_layers_is_replaced_too() -> None:
    with fake_tensors(), as_on_cuda() as seen:
        x = torch.zeros(2, 100, 64)
        nn.MultiheadAttention(64, 4, batch_first=True)(x, x, x, need_weights=False)
        assert seen == {"efficient"}
        nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dtype=torch.bfloat16)(x.bfloat16())
        assert seen == {"efficient", "flash"}


def test_what_was_replaced_is_put_back() -> None:
    before = F.scaled_dot_product_attention, F.dropout, torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ZeroDivisionError), as_on_cuda():
        raise ZeroDivisionError
    assert (F.scaled_dot_product_attention, F.dropout, torch.backends.mha.get_fastpath_enabled()) == before


def test_dropout_keeps_a_mask_of_one_byte_an_element() -> None:
    with fake_tensors(), as_on_cuda():
        x = torch.zeros(1000, requires_grad=True)
        with LiveBytes([x]) as live:
            y = nn.Dropout(0.5)(x)
            assert live.now == 4000 + 4000 + 1000
    del y


def test_storages_are_rounded_up_to_whole_blocks() -> None:
    tensors = [torch.zeros(1), torch.zeros(128), torch.zeros(129)]
    assert storage_bytes(tensors, 512) == 512 + 512 + 1024
    with LiveBytes(tensors[:1], 512) as live:
        y = tensors[0] + 1
        assert live.now == 1024
    del y


def test_the_blas_workspace_is_the_documented_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert blas_workspace((8, 0)) == 8_519_680  # :4096:2:16:8
    assert blas_workspace((9, 0)) == 32 * MIB
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert blas_workspace((9, 0)) == 16 * 8 * 1024


def test_scratch_of_attention_backwards_by_hand() -> None:
    q = torch.empty(2, 4, 1000, 80, dtype=torch.bfloat16, device="meta")
    flash = described(torch.ops.aten._scaled_dot_product_flash_attention_backward.default, (q, q, q, q, q), {})
    # 1000 queries are 8 blocks of 128, and 80 channels 3 of 32: sums in fp32, and one number a query.
    assert kernel_scratch(flash) == 4 * 2 * 4 * 1024 * 96 + 4 * 2 * 4 * 1024
    operator = torch.ops.aten._scaled_dot_product_efficient_attention_backward.default
    half, full = (described(operator, (each, each), {}) for each in (q, q.float()))
    assert kernel_scratch(full) == 32256  # 2 * 4 * 1000 fp32 numbers in whole blocks
    assert kernel_scratch(half) == 32256 + 4 * 2 * 4 * 1000 * 80


@absent
def test_fake_tensors_of_a_cuda_that_is_not_here_live_on_the_cpu() -> None:
    assert (fake_device("cuda:1"), fake_device("cpu")) == ("cpu", "cpu")


def predicted(case: Case) -> Prediction:
    with fake_tensors():
        return predict(build(resolve(case), "fake"))


@absent
def test_flash_is_linear_and_the_eager_map_is_not() -> None:
    case = Case("sdpa", tokens=2**18, dim=64, dtype="bf16", mode="fwd_bwd", device="cuda")
    attention, eager = predicted(case), predicted(case.with_(target="mha"))
    map_bytes = 2**36 * 2
    assert attention.peak < map_bytes / 50 < map_bytes < eager.peak


@absent
def test_a_product_on_cuda_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """x (100, 50) and W (60, 50) and y (100, 60) in whole blocks, and the workspace for the one product."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with fake_tensors():
        subject = subject_of(lambda layer, x: layer(x), (100, 50), parts=[lambda: nn.Linear(50, 60, bias=False)],
                             where="cpu")  # fmt: skip
        subject.case = subject.case.with_(device="cuda")
        found = predict(subject)
    blocks = 20480 + 12288 + 24064  # 20000, 12000 and 24000 bytes
    assert (found.peak, found.scratch) == (blocks + 8_519_680, 8_519_680)


@absent
def test_a_backward_has_a_blas_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights' gradient is a product of the thread that runs the backward; without one there is none."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.delenv("TORCH_CUBLAS_WORKSPACE_CACHE", raising=False)
    found = {}
    for version, mode in (("2.7.0", "fwd"), ("2.7.0", "fwd_bwd"), ("2.15.0", "fwd_bwd")):
        monkeypatch.setattr(torch, "__version__", version)
        with fake_tensors():
            subject = subject_of(lambda layer, x: layer(x), (100, 50), parts=[lambda: nn.Linear(50, 60, bias=False)],
                                 where="cpu", mode=mode)  # fmt: skip
            subject.case = subject.case.with_(device="cuda")
            found[version, mode] = predict(subject).scratch
    assert found["2.7.0", "fwd"] == 8_519_680
    assert found["2.7.0", "fwd_bwd"] == 2 * 8_519_680
    assert 8_519_680 - MIB < found["2.15.0", "fwd_bwd"] <= 8_519_680  # given back before the backward's own


def test_from_2_15_on_blas_gives_its_workspace_back_unless_told_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_CUBLAS_WORKSPACE_CACHE", raising=False)
    kept = {}
    for version in ("2.7.1+cu128", "2.9.0", "2.14.0", "2.15.0", "3.0.0"):
        monkeypatch.setattr(torch, "__version__", version)
        kept[version] = keeps_workspace()
    assert [version for version in kept if kept[version]] == ["2.7.1+cu128", "2.9.0", "2.14.0"]
    monkeypatch.setenv("TORCH_CUBLAS_WORKSPACE_CACHE", "1")
    assert keeps_workspace()


@absent
@pytest.mark.parametrize("engine", ["eager", "cudagraph"])
def test_the_optimizer_on_cuda_works_on_all_weights_at_once(engine: str) -> None:
    """Two moments of each weight in whole blocks; its counts stay on the host. At the peak of a wide layer live the
    gradients, and the roots of all second moments."""
    case = Case("sdpa", tokens=1, dim=512, heads=1, batch_size=1, mode="train", device="cuda", engine=engine)
    with fake_tensors():
        subject = build(resolve(case), "fake")
        weights = storage_bytes(subject.module.parameters(), 512)
        found = predict(subject)
    assert weights == found.weights > 4 * MIB
    assert found.optimizer == 2 * weights
    assert found.temporary == pytest.approx(2 * weights, abs=16 * 512)


@absent
@pytest.mark.parametrize(("name", "mode"), MODULE_MODES)
def test_each_module_is_predicted_for_a_cuda_that_is_not_here_and_says_so(name: str, mode: str) -> None:
    case = Case(name, height=16, width=17, tokens=16 * 17, dim=64, batch_size=2, mode=mode, device="cuda", dtype="bf16")
    with fake_tensors():
        found, notes = values(predict_memory(build(resolve(case), "fake"), Options()))
    parts = [found.get(f"static.predicted_{part}_bytes", 0) for part in
             ("weights", "inputs", "optimizer", "saved", "temporary", "scratch")]  # fmt: skip
    assert sum(parts) == found["static.predicted_peak_bytes"]
    assert any(note.kind == "assumed" and "not here" in note.text for note in notes)


def on_gpu(test: Any) -> Any:
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")(test))


def real(subject: Subject) -> tuple[dict[str, Any], list[Note]]:
    readings, notes = values(measure_memory(subject, Options()))
    return {name.removeprefix("memory.").removesuffix("_bytes"): value for name, value in readings.items()}, notes


PARTS = ("weights", "inputs", "optimizer", "saved", "temporary", "workspace", "rounding")


@on_gpu
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "mode"), MODULE_MODES)
def test_on_a_gpu_the_predicted_peak_is_the_allocators_or_flagged(name: str, mode: str, dtype: str) -> None:
    case = resolve(Case(name, height=64, width=64, tokens=4096, dim=64, batch_size=4, mode=mode, device="cuda",
                        dtype=dtype))  # fmt: skip
    with fake_tensors():
        found = predict(build(case, "fake"))
    measured, _ = real(build(case, "cuda"))
    assert found.doubts or found.peak == pytest.approx(measured["peak"], rel=0.01)
    assert found.doubts or abs(found.optimizer - measured.get("optimizer", 0)) < 512 * 100


@on_gpu
@pytest.mark.parametrize(("name", "mode"), MODULE_MODES)
def test_on_a_gpu_the_parts_add_up(name: str, mode: str) -> None:
    case = resolve(Case(name, height=40, width=40, tokens=1600, dim=64, batch_size=2, mode=mode, device="cuda"))
    found, notes = real(build(case, "cuda"))
    assert "temporary" in found, notes
    assert sum(found.get(part, 0) for part in PARTS) == found["peak"]
    assert all(found[part] >= 0 for part in PARTS if part in found)
    assert ("saved" in found, "optimizer" in found) == (mode != "fwd", mode == "train")
    assert found["reserved"] >= found["peak"] >= found["live_peak"]
    assert not any(note.kind == "held" for note in notes)


def gpu_subject(function: Callable[..., Any], *shapes: tuple[int, ...], parts: Any = (), mode: str = "fwd") -> Subject:
    subject = subject_of(function, *shapes, parts=parts, where="cuda", mode=mode)
    subject.case = subject.case.with_(device="cuda")
    return subject


@on_gpu
def test_on_a_gpu_a_product_takes_a_workspace_and_the_next_case_does_not_inherit_it() -> None:
    product, _ = real(gpu_subject(lambda x, y: x @ y, (256, 256), (256, 256)))
    assert product["workspace"] == pytest.approx(blas_workspace(torch.cuda.get_device_capability()), abs=4 * MIB)
    sum_, _ = real(gpu_subject(lambda x, y: x + y, (256, 256), (256, 256)))
    assert (sum_["workspace"], sum_["rounding"]) == (0, 0)
    assert sum_["peak"] == 3 * 256 * 256 * 4


@on_gpu
def test_on_a_gpu_rounding_is_told() -> None:
    found, _ = real(gpu_subject(lambda x: x + 1, (3,)))
    assert (found["peak"], found["live_peak"], found["rounding"]) == (1024, 24, 1000)


@on_gpu
def test_on_a_gpu_the_scratch_of_convolutions_is_told() -> None:
    subject = gpu_subject(lambda layer, x: layer(x), (8, 64, 64, 64), parts=[lambda: nn.Conv2d(64, 64, 3, padding=1)],
                          mode="fwd_bwd")  # fmt: skip
    found, notes = real(subject)
    assert "workspace" in found, notes
    assert sum(found.get(part, 0) for part in PARTS) == found["peak"]


@on_gpu
def test_on_a_gpu_the_process_holds_what_is_reserved_and_more_or_nvml_does_not_tell() -> None:
    found, notes = real(gpu_subject(lambda x: x * 2, (1000, 1000)))
    if "process_peak" in found:
        assert found["process_peak"] > found["reserved"]
    else:
        assert any("NVML" in note.text for note in notes)


@on_gpu
def test_on_a_gpu_a_cache_of_the_module_is_said() -> None:
    kept: list[Tensor] = []

    def caches(x: Tensor) -> Tensor:
        if not kept:
            kept.append(x.new_zeros(10**6))
        return x + kept[0]

    _, notes = real(gpu_subject(caches, (10**6,)))
    assert [note.kind for note in notes].count("held") == 1


@on_gpu
def test_on_a_gpu_a_recorded_step_is_right_after_it_was_measured() -> None:
    subject = gpu_subject(lambda x, y: x @ y, (512, 512), (512, 512))
    expected = subject.step().clone()

    class Graph:
        def __init__(self) -> None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.output = subject.forward()

        def replay(self) -> None:
            self.graph.replay()

    subject.replays["forward"] = recorded = Graph()
    found, notes = real(subject)
    assert "peak" not in found and "activations" not in found
    assert found["reserved"] >= 3 * 512 * 512 * 4
    assert any("memory.peak_bytes" in note.text for note in notes)
    recorded.output.zero_()
    junk = [torch.full((2**20,), torch.nan, device="cuda") for _ in range(32)]
    assert torch.allclose(subject.step(), expected)
    del junk
