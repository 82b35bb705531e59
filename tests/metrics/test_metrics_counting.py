"""The instruments of counting: parameters, and MACs that several counters verify."""

import pytest
import torch
from metrics_subjects import subject_of, values
from torch import Tensor, nn
from torch.nn import functional as F

from attnbench.core.case import Case
from attnbench.metrics.counting import count_backward, count_macs, count_parameters
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Expected, Subject
from attnbench.targets.build import build
from attnbench.targets.fake import fake_tensors
from attnbench.targets.resolve import resolve


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.register_buffer("table", torch.zeros(100))
        self.again = self.first


def test_parameters_are_counted_once_and_buffers_apart() -> None:
    readings, notes = values(count_parameters(Subject(Case("x"), Tied(), (), "cpu"), Options()))
    assert readings == {"static.params": 16 + 4 + 4, "static.trainable_params": 16 + 4, "static.buffers": 100}
    assert [note.text for note in notes] == [f"static.{how}: nothing was {how}" for how in ("swapped", "inserted")]


def refuse(subject: Subject) -> None:
    raise RuntimeError("not today")


def test_a_counter_that_cannot_count_says_why_and_the_others_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.metrics.counting.fvcore_macs", refuse)
    readings, notes = values(count_macs(subject_of(lambda a, b: a @ b, (4, 5), (5, 6)), Options()))
    assert readings["static.counters"] == {"dispatch": 120, "fvcore": None, "torch": 120, "formula": None}
    assert (readings["static.macs"], readings["static.verified"]) == (120, True)
    assert [(note.kind, note.text) for note in notes] == [
        ("method", "fvcore cannot count it (RuntimeError: not today)")
    ]


def test_a_count_that_nobody_can_check_is_unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.metrics.counting.fvcore_macs", refuse)
    monkeypatch.setattr("attnbench.metrics.counting.torch_macs_by_kernel", refuse)
    readings, notes = values(count_macs(subject_of(lambda a, b: a @ b, (4, 5), (5, 6)), Options()))
    assert (readings["static.macs"], readings["static.verified"]) == (120, False)
    assert [note.kind for note in notes] == ["unverified"]


def test_what_only_others_can_count_is_unknown_in_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.metrics.counting.dispatch_count", refuse)
    readings, notes = values(count_macs(subject_of(lambda a, b: a @ b, (4, 5), (5, 6)), Options()))
    assert (readings["static.macs"], readings["static.verified"]) == (120, False)
    assert "static.uncounted_ops" not in readings  # unknown, which is not the same as none
    assert any("not today" in note.text for note in notes)


class Failing(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.layer = how, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        if self.how == "raises":
            raise RuntimeError("the module's own reason")
        return x[:, : int(x.sum().item())] if self.how == "looks at values" else nn.functional.linear(x, x)


@pytest.mark.parametrize("how", ["raises", "looks at values", "shapes that do not fit"])
def test_a_failed_trace_does_not_spoil_the_next_count(how: str) -> None:
    good = subject_of(lambda a, b, x: b(a(x).relu()), (3, 4), parts=[lambda: nn.Linear(4, 8), lambda: nn.Linear(8, 4)])
    bad = subject_of(
        lambda bad, x: bad(x), (3, 5 if how == "shapes that do not fit" else 4), parts=[lambda: Failing(how)]
    )
    before = values(count_macs(good, Options()))
    for _ in range(2):
        readings, notes = values(count_macs(bad, Options()))
        assert readings == {"static.counters": dict.fromkeys(("dispatch", "fvcore", "torch", "formula"))}
        assert [note.kind for note in notes] == ["uncounted"] * 4
        assert "not zero" in notes[-1].text
        assert values(count_macs(good, Options())) == before
    assert before[0]["static.macs"] == 2 * 3 * 4 * 8
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def expecting(macs: int) -> Subject:
    subject = subject_of(lambda a, b: a @ b, (4, 5), (5, 6))
    subject.expected = Expected(0, macs)
    return subject


def test_counters_that_agree_verify_each_other() -> None:
    readings, notes = values(count_macs(expecting(120), Options()))
    assert readings == {
        "static.counters": {"dispatch": 120, "fvcore": 120, "torch": 120, "formula": 120}, "static.macs": 120,
        "static.flops": 240, "static.useful_macs": 120, "static.macs_by_op": {"matmul": 120},
        "static.macs_by_module": {"": 120}, "static.elementwise": 0, "static.reductions": 0, "static.fft_flops": 0,
        "static.uncounted_ops": {}, "static.verified": True,
    }  # fmt: skip
    assert type(readings["static.macs"]) is int
    assert notes == []


def test_counters_that_differ_by_one_are_unverified_and_said() -> None:
    readings, notes = values(count_macs(expecting(121), Options()))
    assert readings["static.verified"] is False
    assert [(note.kind, note.text) for note in notes] == [
        ("unverified", "the counters disagree on its 120 MACs: its own formula says 121")
    ]


@pytest.mark.parametrize(("name", "macs"), [
    # C = 64, 4 heads of 16: 4NC² + 2NC*16 + NC; 4NC² + 2N²C
    ("linear_attn", 2**20 * (4 * 64 * 64 + 2 * 64 * 16 + 64)),
    ("sdpa", 4 * 2**20 * 64 * 64 + 2 * 2**40 * 64),
])  # fmt: skip
def test_a_million_tokens_without_their_memory(name: str, macs: int) -> None:
    case = resolve(Case(name, height=1024, width=1024, tokens=2**20, dim=64, heads=4))
    readings, notes = values(count_macs(build(case, "meta"), Options()))
    assert (readings["static.macs"], readings["static.verified"], notes) == (macs, True, [])


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a CUDA device torch chooses the kernel itself")
@pytest.mark.parametrize(
    ("head_dim", "recomputed"),
    [(64, 2 * 4 * 16 * 16 * 64), (30, 0)],  # of 30 channels in fp32 math alone takes care, and keeps its scores
)
def test_what_a_cuda_device_that_is_not_here_would_compute_again(head_dim: int, recomputed: int) -> None:
    with fake_tensors():
        subject = subject_of(F.scaled_dot_product_attention, *[(2, 4, 16, head_dim)] * 3, where="cpu", mode="fwd_bwd")
        subject.case = subject.case.with_(device="cuda")
        subject.where = "fake"
        readings, _ = values(count_backward(subject, Options()))
    assert readings["static.backward_macs"] == 4 * 2 * 4 * 16 * 16 * head_dim
    assert readings["static.recomputed_macs"] == recomputed


def test_what_nobody_knows_in_a_backward_is_said() -> None:
    subject = subject_of(lambda a, b: torch.cdist(a @ b, b, p=1), (4, 5), (5, 5), mode="fwd_bwd")
    readings, notes = values(count_backward(subject, Options()))
    assert readings["static.backward_macs"] == 2 * 4 * 5 * 5  # those of the product
    (note,) = notes
    assert note.kind == "uncounted"
    assert "lower bound" in note.text
    assert "aten._cdist_backward" in note.text
    assert "aten._cdist_backward" in readings["static.backward_uncounted_ops"]
