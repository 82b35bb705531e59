"""`--backend`: the kernel asked for runs, or the row says in torch's words why not; what ran is recorded."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError
from attnbench.engine.asking import measured, resolved
from attnbench.engine.workers.channels import InlineChannel
from attnbench.metrics.attention import kernel_names, measure_attention, operators_of
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject
from attnbench.targets.backend import attention_backend, first_step

SDPA = Case("sdpa", tokens=64, height=8, width=8, dim=64)
QUICK = Options(metrics=("static", "latency", "attention"), max_time=0.02)


def record(case: Case):
    (ready,) = resolved([case], InlineChannel())
    return measured(ready, InlineChannel(), QUICK)


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
@pytest.mark.parametrize("backend", [None, "math", "flash"])
def test_the_kernel_that_was_asked_for_ran_and_is_recorded(backend: str | None, mode: str) -> None:
    found = record(SDPA.with_(backend=backend, mode=mode))
    assert found.ok, found.reason
    assert found.value("attention.kernel") == (backend or "flash")  # which is what a CPU takes by itself
    assert list(found.value("attention.operators").values()) == [1]
    assert f"--backend {backend}" in found.repro if backend else "--backend" not in found.repro


def test_the_math_kernel_is_predicted_and_measured_to_hold_the_matrix() -> None:
    """The fused kernel never holds N x N scores; math does, and both the prediction and the measurement say so."""
    case, options = SDPA.with_(tokens=1024, height=32, width=32), Options(metrics=("static", "memory"))
    peaks = {}
    for backend in ("math", "flash"):
        (ready,) = resolved([case.with_(backend=backend)], InlineChannel())
        found = measured(ready, InlineChannel(), options)
        peaks[backend] = found.value("memory.peak_bytes")
        assert found.value("static.predicted_peak_bytes") == peaks[backend]
    assert peaks["math"] - peaks["flash"] > 1024**2 * 4


@pytest.mark.parametrize("backend", ["efficient", "cudnn"])
def test_what_torch_refuses_is_unsupported_in_its_words(backend: str) -> None:
    found = record(SDPA.with_(backend=backend))
    assert found.status == "unsupported"
    assert found.reason == (f"--backend {backend} is refused by torch (of these kernels a CPU has math and flash): "
                            "No viable backend for scaled_dot_product_attention was found")  # fmt: skip
    assert found.value("static.macs") is not None
    assert found.value("latency.median_ms") is None


def test_the_reasons_that_torch_warns_of_are_said() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            warnings.warn("Memory Efficient attention has been runtime disabled.", stacklevel=1)
            warnings.warn("Expected query to be Half (Triggered internally at sdp_utils.cpp:1)", stacklevel=1)
            raise RuntimeError("No available kernel. Aborting execution.")

    with pytest.raises(UnsupportedError, match=r"--backend flash is refused by torch: Expected query to be Half$"):
        first_step(Subject(SDPA.with_(backend="flash", device="cuda"), Picky(), (torch.ones(1),), "cpu"))


def test_a_module_without_fused_attention_has_no_backend_to_choose() -> None:
    found = record(Case("self_attn", height=8, width=8, tokens=64, dim=64, backend="math"))
    assert found.status == "unsupported"
    assert found.reason == "self_attn calls no scaled_dot_product_attention: --backend would change nothing"


class Stubborn(nn.Module):
    """Chooses its kernel itself."""

    def forward(self, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(x, x, x)


def subject(backend: str | None) -> Subject:
    return Subject(SDPA.with_(backend=backend), Stubborn(), (torch.randn(1, 2, 9, 8),), "cpu")


def test_a_module_that_chooses_for_itself_is_no_silent_fall_back() -> None:
    with attention_backend("flash"), pytest.raises(UnsupportedError, match="asked for flash, and math ran"):
        first_step(subject("flash"))
    notes = [finding.text for finding in measure_attention(subject("flash"), QUICK) if hasattr(finding, "text")]
    assert notes == ["asked for flash, and math ran: the module, or the compiler, chooses for itself"]


def test_what_fails_for_another_reason_keeps_its_own_error() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        first_step(Subject(SDPA.with_(backend="math"), Broken(), (torch.ones(1),), "cpu"))


def test_the_switches_are_as_before_afterwards() -> None:
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()
    with attention_backend("math"):
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()) == before


def test_layers_that_differ_are_all_named() -> None:
    x, plain = torch.randn(1, 2, 9, 8), Stubborn()
    calls = operators_of(lambda: [plain(x), F.scaled_dot_product_attention(x, x, x), plain(x)])
    assert dict(calls) == {"_scaled_dot_product_attention_math": 2, "_scaled_dot_product_flash_attention_for_cpu": 1}
    assert kernel_names(calls) == ["math", "flash"]


def test_the_fast_path_of_multi_head_attention_is_seen() -> None:
    layer, x = nn.MultiheadAttention(16, 2, batch_first=True).eval(), torch.randn(1, 5, 16)
    with torch.no_grad():
        assert kernel_names(operators_of(lambda: layer(x, x, x, need_weights=False))) == ["native MHA"]


def test_bad_backends_on_the_command_line(cli) -> None:
    code, _, err = cli("run", "-m", "sdpa", "--backend", "flesh")
    assert code == 2
    assert err.strip().endswith("--backend 'flesh' is unknown. Did you mean 'flash'? Known: auto, math, flash, "
                                "efficient, cudnn.")  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("backend", "dtype"), [("math", "fp32"), ("flash", "bf16"), ("efficient", "fp32"),
                                                ("cudnn", "bf16")])  # fmt: skip
def test_each_kernel_on_cuda(backend: str, dtype: str) -> None:
    found = record(SDPA.with_(device="cuda", backend=backend, dtype=dtype))
    assert found.ok, found.reason
    assert found.value("attention.kernel") == backend


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_flash_refuses_single_precision_on_cuda_with_its_reason() -> None:
    found = record(SDPA.with_(device="cuda", backend="flash", dtype="fp32"))
    assert found.status == "unsupported"
    assert "Half" in found.reason
