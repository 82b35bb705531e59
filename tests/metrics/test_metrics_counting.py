"""MACs against integers derived by hand, for attention and its like written in many ways."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from metrics_subjects import Make, subject_of, values
from torch import Tensor, nn
from torch.nn import functional as F

from attnbench.core.case import Case
from attnbench.metrics.counters.flop_counter import torch_macs
from attnbench.metrics.counters.fvcore import fvcore_macs
from attnbench.metrics.counters.handles import einsum_macs
from attnbench.metrics.counters.tracing import TraceableConvolutions
from attnbench.metrics.counting import count_macs, count_parameters
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Expected, Subject
from attnbench.targets.build import build
from attnbench.targets.resolve import resolve

B, H, N, D = 2, 3, 5, 7  # batch, heads, tokens, channels of a head
QKV = [(B, H, N, D)] * 3


def gated_and_pooled(a: Tensor, b: Tensor) -> Tensor:
    """Channel attention before spatial attention, as in CBAM: the gated map goes on, and is pooled over channels."""
    gated = a * b
    return gated * gated.mean(-1, keepdim=True).sigmoid()


# (name, function, shapes of its inputs, MACs as they are derived on paper)
PRODUCTS: list[tuple[str, Callable[..., Any], Sequence[Sequence[int]], int]] = [
    ("matmul", lambda a, b: a @ b, [(4, 5), (5, 6)], 4 * 5 * 6),
    ("matmul, one matrix for all", lambda a, b: a @ b, [(2, 3, 4, 5), (5, 6)], 2 * 3 * 4 * 5 * 6),
    ("matmul, the left one for all", lambda a, b: a @ b, [(4, 5), (2, 3, 5, 6)], 2 * 3 * 4 * 5 * 6),
    ("matmul, both sides broadcast", lambda a, b: a @ b, [(2, 1, 4, 5), (3, 5, 6)], 2 * 3 * 4 * 5 * 6),
    ("matmul, vector on the left", lambda a, b: a @ b, [(5,), (2, 5, 6)], 2 * 5 * 6),
    ("matmul, vector on the right", lambda a, b: a @ b, [(2, 4, 5), (5,)], 2 * 4 * 5),
    ("linalg.matmul", torch.linalg.matmul, [(4, 5), (5, 6)], 120),
    ("matmul of complex", lambda a, b: (torch.complex(a, a) @ torch.complex(b, b)).real, [(4, 5), (5, 6)], 4 * 120),
    ("mm", torch.mm, [(4, 5), (5, 6)], 120),
    ("bmm", torch.bmm, [(3, 4, 5), (3, 5, 6)], 3 * 120),
    ("mv", torch.mv, [(4, 5), (5,)], 20),
    ("dot", torch.dot, [(9,), (9,)], 9),
    ("vdot", torch.vdot, [(9,), (9,)], 9),
    ("inner", torch.inner, [(2, 4, 5), (6, 5)], 2 * 4 * 6 * 5),
    ("outer", torch.outer, [(4,), (5,)], 0),
    ("tensordot", lambda a, b: torch.tensordot(a, b, dims=([1, 2], [1, 0])), [(4, 5, 6), (6, 5, 7)], 4 * 7 * 5 * 6),
    ("tensordot, one index", lambda a, b: torch.tensordot(a, b, dims=1), [(4, 5), (5, 2, 3)], 4 * 5 * 2 * 3),
    ("addmm", torch.addmm, [(4, 6), (4, 5), (5, 6)], 120),
    ("addmm_", lambda a, b, c: a.clone().addmm_(b, c), [(4, 6), (4, 5), (5, 6)], 120),
    ("addmv", torch.addmv, [(4,), (4, 5), (5,)], 20),
    ("baddbmm", torch.baddbmm, [(3, 4, 6), (3, 4, 5), (3, 5, 6)], 360),
    ("baddbmm, beta 0", lambda a, b, c: torch.baddbmm(a, b, c, beta=0), [(1, 1, 1), (3, 4, 5), (3, 5, 6)], 360),
    ("addbmm", torch.addbmm, [(4, 6), (3, 4, 5), (3, 5, 6)], 360),
    ("linear", F.linear, [(2, 4, 5), (6, 5)], 2 * 4 * 5 * 6),
    ("q*k, then sum", lambda a, b: (a * b).sum(-1), [(4, 5), (4, 5)], 20),
    ("q*k, broadcast, then sum", lambda a, b: (a[:, None] * b).sum(-1), [(4, 5), (6, 5)], 4 * 6 * 5),
    ("q*k in place, then sum", lambda a, b: a.clone().mul_(b).sum(), [(4, 5), (4, 5)], 20),
    ("cumsum of a product", lambda a, b: (a * b).cumsum(0), [(4, 5), (4, 5)], 20),
    ("sum", lambda a: a.sum(), [(4, 5)], 0),
    ("sum of a scaled tensor", lambda a: (a * 0.5).sum(), [(4, 5)], 0),
    ("sum of a sum", lambda a, b: (a + b).sum(), [(4, 5), (4, 5)], 0),
    ("cumsum", lambda a: a.cumsum(0), [(4, 5)], 0),
    ("mean of a product", lambda a, b: (a * b).mean(-1), [(4, 5), (4, 5)], 20),
    ("sum of a product over listed axes", lambda a, b: (a * b).sum((0, 1)), [(4, 5), (4, 5)], 20),
    ("sum of a product over one axis of broadcasting", lambda a, b: (a * b).sum(0), [(4, 5), (5,)], 0),
    ("a gated map, pooled", lambda a, b: (a * b).mean((2, 3)), [(2, 3, 4, 5), (2, 3, 1, 1)], 0),
    ("a map weighted by position, pooled", lambda a, b: (a * b).mean((2, 3)), [(2, 3, 4, 5), (2, 1, 4, 5)], 120),
    ("cumsum of a product along a constant", lambda a, b: (a * b).cumsum(1), [(4, 5), (4, 1)], 0),
    ("mean", lambda a: a.mean(), [(4, 5)], 0),
    ("a gated map that goes on, and is pooled besides", gated_and_pooled, [(4, 5), (1, 5)], 0),
    ("a product alone", lambda a, b: a * b, [(4, 5), (4, 5)], 0),
    ("softmax and norm", lambda a: F.layer_norm(a.softmax(-1), (5,)), [(4, 5)], 0),
    ("vmap of mv", lambda a, b: torch.vmap(torch.mv, (None, 1), 1)(a, b), [(4, 5), (5, 6)], 120),
]  # fmt: skip

EINSUMS: list[tuple[str, Sequence[Sequence[int]], int]] = [
    ("bhnd,bhmd->bhnm", [(2, 3, 5, 7), (2, 3, 4, 7)], 2 * 3 * 5 * 4 * 7),
    ("b h n d, b h m d -> b h n m", [(2, 3, 5, 7), (2, 3, 4, 7)], 2 * 3 * 5 * 4 * 7),
    ("...nd,...md->...nm", [(2, 3, 5, 7), (2, 3, 4, 7)], 2 * 3 * 5 * 4 * 7),
    ("...nd,...md->...nm", [(2, 3, 5, 7), (4, 7)], 2 * 3 * 5 * 4 * 7),
    ("...nd,...md->...nm", [(3, 5, 7), (2, 1, 4, 7)], 2 * 3 * 5 * 4 * 7),
    ("n...d,m...d->...nm", [(5, 2, 3, 7), (4, 2, 3, 7)], 2 * 3 * 5 * 4 * 7),
    ("bnd,bnd->b", [(2, 5, 7), (2, 5, 7)], 70),
    ("bnd,bne->bde", [(2, 5, 7), (2, 5, 4)], 2 * 5 * 7 * 4),
    ("ij,jk", [(4, 5), (5, 6)], 120),
    ("ji,kj", [(5, 4), (6, 5)], 120),
    ("...ij,...jk", [(2, 4, 5), (2, 5, 6)], 240),
    ("i,j->ij", [(4,), (5,)], 0),  # no label is summed
    ("bnd,bnd->bnd", [(2, 5, 7), (2, 5, 7)], 0),
    ("bnd->bd", [(2, 5, 7)], 0),
    ("bnd->dbn", [(2, 5, 7)], 0),
    ("ij,k->ik", [(4, 5), (6,)], 0),  # j stands in one operand only: it is summed before, and the rest is outer
    ("bij,bjk->bik", [(1, 4, 5), (2, 5, 6)], 240),  # size 1 broadcasts
    ("ij,jk,kl->il", [(4, 5), (5, 6), (6, 7)], 4 * 5 * 6 + 4 * 6 * 7),
    ("bnd,bne,bmd->bme", [(2, 5, 7), (2, 5, 4), (2, 3, 7)], 2 * 5 * 7 * 4 + 2 * 3 * 7 * 4),
    ("ij,kl,jk->il", [(2, 3), (5, 7), (3, 5)], 2 * 3 * 5 * 7),  # the first two have nothing in common
    ("aB,Bc->ac", [(4, 5), (5, 6)], 120),
    ("ii,ij->j", [(4, 4), (4, 5)], 20),
]

CONVOLUTIONS: list[tuple[str, Make, Sequence[int], int]] = [
    # output elements times taps over the input channels of a group
    ("1d", lambda: nn.Conv1d(4, 6, 3), (2, 4, 10), 2 * 6 * 8 * 4 * 3),
    ("1d, same, dilated", lambda: nn.Conv1d(4, 6, 3, padding="same", dilation=2), (2, 4, 10), 2 * 6 * 10 * 4 * 3),
    ("1d, causal by padding", lambda: nn.Conv1d(4, 4, 3, padding=2, groups=4), (2, 4, 10), 2 * 4 * 12 * 3),
    ("2d", lambda: nn.Conv2d(4, 6, 3), (2, 4, 9, 9), 2 * 6 * 7 * 7 * 4 * 9),
    ("2d, no bias", lambda: nn.Conv2d(4, 6, 3, bias=False), (2, 4, 9, 9), 2 * 6 * 7 * 7 * 4 * 9),
    ("2d, point-wise", lambda: nn.Conv2d(4, 6, 1), (2, 4, 9, 9), 2 * 6 * 81 * 4),
    ("2d, stride", lambda: nn.Conv2d(4, 6, 3, stride=2), (2, 4, 9, 9), 2 * 6 * 16 * 36),
    ("2d, strides", lambda: nn.Conv2d(4, 6, 3, stride=(2, 3)), (2, 4, 9, 9), 2 * 6 * 4 * 3 * 36),
    ("2d, padding", lambda: nn.Conv2d(4, 6, 3, padding=1), (2, 4, 9, 9), 2 * 6 * 81 * 36),
    ("2d, paddings", lambda: nn.Conv2d(4, 6, (3, 5), padding=(0, 2)), (2, 4, 9, 9), 2 * 6 * 7 * 9 * 4 * 15),
    ("2d, same", lambda: nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 9, 9), 2 * 6 * 81 * 36),
    ("2d, same, even filter", lambda: nn.Conv2d(4, 6, 4, padding="same"), (2, 4, 9, 9), 2 * 6 * 81 * 64),
    ("2d, valid", lambda: nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 9, 9), 2 * 6 * 49 * 36),
    ("2d, dilation", lambda: nn.Conv2d(4, 6, 3, dilation=2, padding=1), (2, 4, 9, 9), 2 * 6 * 49 * 36),
    ("2d, groups", lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 9, 9), 2 * 6 * 81 * 2 * 9),
    ("2d, depth-wise", lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), (2, 4, 9, 9), 2 * 4 * 81 * 9),
    ("2d, depth-wise twice", lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), (2, 4, 9, 9), 2 * 8 * 81 * 9),
    ("2d, circular", lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 9, 9), 2 * 6 * 81 * 36),
    ("2d, one image alone", lambda: nn.Conv2d(4, 6, 3, padding=1), (4, 9, 9), 6 * 81 * 36),
    ("3d", lambda: nn.Conv3d(2, 3, 3, padding=1, stride=2), (2, 2, 5, 5, 5), 2 * 3 * 27 * 2 * 27),
]  # fmt: skip

TRANSPOSED: list[tuple[str, Make, Sequence[int], int]] = [
    # each input element is spread over the taps of all output channels of its group
    ("1d", lambda: nn.ConvTranspose1d(4, 6, 3), (2, 4, 10), 2 * 4 * 10 * 6 * 3),
    ("2d", lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 9, 9), 2 * 4 * 81 * 6 * 9),
    ("2d, groups", lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 9, 9), 2 * 4 * 81 * 3 * 9),
    ("2d, all", lambda: nn.ConvTranspose2d(4, 6, (3, 5), (2, 3), (1, 2), (1, 0), dilation=(1, 2)), (2, 4, 9, 7),
     2 * 4 * 63 * 6 * 15),
    ("3d", lambda: nn.ConvTranspose3d(2, 3, 2, 2, bias=False), (1, 2, 4, 5, 6), 2 * 120 * 3 * 8),
]


def counted(subject: Subject) -> int:
    """fvcore's count with our handles; nothing may be left uncounted."""
    by_op, uncounted = fvcore_macs(subject)
    assert not uncounted
    return sum(by_op.values())


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize(("function", "shapes", "macs"), [case[1:] for case in PRODUCTS], ids=[c[0] for c in PRODUCTS])
def test_products_in_every_spelling(function: Any, shapes: Any, macs: int, where: str) -> None:
    assert counted(subject_of(function, *shapes, where=where)) == macs


@pytest.mark.parametrize(("equation", "shapes", "macs"), EINSUMS)
def test_einsum(equation: str, shapes: Any, macs: int) -> None:
    subject = subject_of(lambda *operands: torch.einsum(equation, *operands), *shapes)
    assert counted(subject) == macs
    assert einsum_macs(equation, shapes) == macs


# torch multiplies whatever two operands share, even by an outer product, as a matrix product.
AS_TORCH = [case for case in EINSUMS if case[2] and case[0] != "ij,kl,jk->il"]


@pytest.mark.parametrize(("equation", "shapes", "macs"), AS_TORCH)
def test_einsum_is_what_torch_computes(equation: str, shapes: Any, macs: int) -> None:
    assert torch_macs(subject_of(lambda *operands: torch.einsum(equation, *operands), *shapes)) == macs


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize(
    ("make", "shape", "macs"), [case[1:] for case in CONVOLUTIONS], ids=[c[0] for c in CONVOLUTIONS]
)
def test_convolutions(make: Make, shape: Any, macs: int, where: str) -> None:
    subject = subject_of(lambda layer, x: layer(x), shape, parts=[make], where=where)
    assert counted(subject) == macs
    assert torch_macs(subject) == macs


@pytest.mark.parametrize("padding", [1, (1,), (1, 1), [1, 1], torch.Size([1])], ids=str)
def test_a_functional_convolution_with_every_spelling_of_its_padding(padding: Any) -> None:
    subject = subject_of(lambda x, w: F.conv2d(x, w, padding=padding), (2, 4, 9, 9), (6, 4, 3, 3))
    assert counted(subject) == 2 * 6 * 81 * 36


@pytest.mark.parametrize(("make", "shape", "macs"), [case[1:] for case in TRANSPOSED], ids=[c[0] for c in TRANSPOSED])
def test_transposed_convolutions(make: Make, shape: Any, macs: int) -> None:
    assert counted(subject_of(lambda layer, x: layer(x), shape, parts=[make], where="cpu")) == macs
    assert counted(subject_of(lambda layer, x: layer(x), shape, parts=[make])) == macs


def test_what_fvcore_passed_over_is_unknown_when_it_cannot_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(subject: Subject) -> None:
        raise RuntimeError("no trace today")

    monkeypatch.setattr("attnbench.metrics.counting.fvcore_macs", refuse)
    readings, notes = values(count_macs(subject_of(lambda a, b: a @ b, (4, 5), (5, 6)), Options()))
    assert readings["static.macs"] == 120
    assert readings["static.verified"] is False
    assert "static.uncounted_ops" not in readings  # unknown, which is not the same as none
    assert [note.text for note in notes] == ["fvcore cannot trace it (RuntimeError: no trace today)"]


@pytest.mark.parametrize(("make", "shape", "macs"), [case[1:] for case in TRANSPOSED], ids=[c[0] for c in TRANSPOSED])
def test_a_transposed_convolution_keeps_its_shape_under_the_tracer(make: Make, shape: Any, macs: int) -> None:
    layer, x = make(), torch.empty(shape)
    with TraceableConvolutions(active=True):
        traced = layer(x)
    assert traced.shape == layer(x).shape


# Softmax attention of (B, H, N, D): twice N*N*D for each head.
ATTENTION = 2 * B * H * N * N * D


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2) / math.sqrt(D)).softmax(-1) @ v


def with_bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (each.flatten(0, 1) for each in (q, k, v))
    return torch.bmm(torch.baddbmm(q.new_zeros(1), q, k.mT, alpha=0.3).softmax(-1), v)


def with_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhnm,bhmd->bhnd", torch.einsum("bhnd,bhmd->bhnm", q, k).softmax(-1), v)


def with_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q[:, :, :, None] * k[:, :, None]).sum(-1).softmax(-1)
    return (weights[..., None] * v[:, :, None]).sum(-2)


def by_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([plain(row, k, v) for row in q.split(1, dim=-2)], dim=-2)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def fused_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


FORMS = [plain, with_bmm, with_einsum, with_sums, by_row, fused, fused_causal]


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_the_same_attention_in_every_form_has_the_same_count(form: Any, where: str) -> None:
    assert counted(subject_of(form, *QKV, where=where)) == ATTENTION


@pytest.mark.parametrize("where", ["meta", "cpu"])
def test_fused_attention_with_other_sizes(where: str) -> None:
    shapes = [(2, 4, 5, 8), (2, 4, 9, 8), (2, 4, 9, 6)]
    assert counted(subject_of(fused, *shapes, where=where)) == 2 * 4 * 5 * 9 * (8 + 6)
    grouped = subject_of(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
                         (2, 4, 5, 8), (2, 2, 9, 8), (2, 2, 9, 8), where=where)  # fmt: skip
    assert counted(grouped) == 2 * 4 * 5 * 9 * 16


# N = 7 tokens, C = 8: 4NC² for the projections, 2N²C for the two products; batch 2.
MHA = 2 * (4 * 7 * 64 + 2 * 49 * 8)
LAYER = MHA + 2 * 2 * 7 * 8 * 16  # and two layers of 16 channels


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_in_eval(need_weights: bool, where: str) -> None:
    subject = subject_of(lambda layer, x: layer(x, x, x, need_weights=need_weights)[0], (2, 7, 8),
                         parts=[lambda: nn.MultiheadAttention(8, 2, batch_first=True)], where=where)  # fmt: skip
    assert counted(subject) == MHA
    if need_weights:  # torch's counter takes the fused path for zero; without weights it may miss the CPU's kernel
        assert torch_macs(subject) == MHA


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize(
    ("make", "layers"), [(encoder_layer, 1), (lambda: nn.TransformerEncoder(encoder_layer(), 3), 3)], ids=["1", "3"]
)
def test_a_transformer_in_eval(make: Any, layers: int, where: str) -> None:
    subject = subject_of(lambda layer, x: layer(x), (2, 7, 8), parts=[make], where=where)
    assert counted(subject) == layers * LAYER
    assert torch.backends.mha.get_fastpath_enabled()  # put back after counting


def test_a_module_that_is_called_twice_counts_twice() -> None:
    subject = subject_of(lambda layer, x: layer(layer(x)), (3, 4), parts=[lambda: nn.Linear(4, 4)])
    assert counted(subject) == 2 * 3 * 16


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.register_buffer("table", torch.zeros(100))
        self.again = self.first


def test_parameters_are_counted_once_and_buffers_not_at_all() -> None:
    readings, notes = values(count_parameters(Subject(Case("x"), Tied(), (), "cpu"), Options()))
    assert readings == {"static.params": 16 + 4 + 4, "static.trainable_params": 16 + 4}
    assert notes == []


class Opaque(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient


@torch.library.custom_op("attnbench_tests::product", mutates_args=())
def custom_product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


@custom_product.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


def first_of(layer: nn.Module, x: Tensor) -> Any:
    return layer(x)[0]


UNKNOWN: list[tuple[str, Callable[..., Any], Sequence[Sequence[int]], Sequence[Make], str]] = [
    ("autograd.Function", Opaque.apply, [(4, 5), (5, 6)], [], "prim::PythonOp.Opaque"),
    ("torch.library", custom_product, [(4, 5), (5, 6)], [], "attnbench_tests::product"),
    ("fft", lambda a: torch.fft.fft(a).real, [(4, 5)], [], "aten::fft_fft"),
    ("rfft2", lambda a: torch.fft.rfft2(a).abs(), [(4, 5)], [], "aten::fft_rfft2"),
    ("lstm", first_of, [(3, 4, 5)], [lambda: nn.LSTM(5, 6)], "aten::lstm"),
    ("gru", first_of, [(3, 4, 5)], [lambda: nn.GRU(5, 6)], "aten::gru"),
    ("rnn", first_of, [(3, 4, 5)], [lambda: nn.RNN(5, 6)], "aten::rnn_tanh"),
    ("cdist", torch.cdist, [(4, 5), (6, 5)], [], "aten::cdist"),
    ("cosine similarity", F.cosine_similarity, [(4, 5), (4, 5)], [], "aten::cosine_similarity"),
    ("bilinear", F.bilinear, [(4, 5), (4, 6), (7, 5, 6)], [], "aten::bilinear"),
    ("multi_dot", lambda a, b: torch.linalg.multi_dot([a, b]), [(4, 5), (5, 6)], [], "aten::linalg_multi_dot"),
    ("matrix_power", lambda a: torch.matrix_power(a, 3), [(4, 4)], [], "aten::linalg_matrix_power"),
    ("inverse", torch.linalg.inv, [(4, 4)], [], "aten::linalg_inv"),
    ("svd", lambda a: torch.linalg.svd(a)[1], [(4, 4)], [], "aten::linalg_svd"),
    ("kron", torch.kron, [(4, 5), (5, 6)], [], "aten::kron"),
    ("nansum", lambda a, b: torch.nansum(a * b), [(4, 5), (4, 5)], [], "aten::nansum"),
]


@pytest.mark.parametrize(
    ("function", "shapes", "parts", "name"), [case[1:] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN]
)
def test_what_nobody_knows_is_named(function: Any, shapes: Any, parts: Any, name: str) -> None:
    def known_and_unknown(*given: Any) -> Tensor:
        return given[-1] @ given[-1].mT + function(*given[:-1]).sum()

    subject = subject_of(known_and_unknown, *shapes, (2, 3), parts=parts)
    by_op, uncounted = fvcore_macs(subject)
    assert uncounted == {name: 1}
    assert by_op == {"matmul": 12}  # what is known is counted all the same
    readings, notes = values(count_macs(subject, Options()))
    assert readings["static.uncounted_ops"] == {name: 1}
    assert readings["static.verified"] is False
    assert any(note.kind == "uncounted" and name in note.text and "lower bound" in note.text for note in notes)


def product(a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(a, b)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_function_is_named() -> None:
    scripted = torch.jit.script(product)
    assert fvcore_macs(subject_of(scripted, (4, 5), (5, 6)))[1] == {"prim::CallFunction": 1}


HARMLESS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.mT,
    lambda x: x.mH,
    lambda x: x.adjoint(),
    lambda x: torch.addcmul(x, x, x),
    lambda x: (x > 0) | (x < 1),
    lambda x: (x > 0) ^ (x < 1),
    lambda x: ~(x > 0),
    lambda x: x.square().sum(),
    lambda x: x.norm(),
    lambda x: x.roll(1, 0),
    lambda x: F.gelu(x),
    lambda x: F.rms_norm(x, (5,)),
    lambda x: x.topk(2).values,
    lambda x: x.unfold(1, 2, 1),
    lambda x: F.interpolate(x[None, None], scale_factor=2),
    lambda x: F.pixel_unshuffle(x[None, :, None, :4], 1),
    lambda x: x.masked_fill(x > 0, 1),
    lambda x: x.clone().fill_(1),
    lambda x: torch.logcumsumexp(x, 0),
]


@pytest.mark.parametrize("function", HARMLESS, ids=range(len(HARMLESS)))
def test_what_holds_no_contraction_is_no_alarm(function: Any) -> None:
    assert fvcore_macs(subject_of(function, (4, 5))) == ({}, {})


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
        assert readings == {"static.counters": {"fvcore": None, "torch": None, "formula": None}}
        assert [note.kind for note in notes] == ["uncounted"] * 3
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
        "static.counters": {"fvcore": 120, "torch": 120, "formula": 120}, "static.macs": 120, "static.flops": 240,
        "static.macs_by_op": {"matmul": 120}, "static.uncounted_ops": {}, "static.verified": True,
    }  # fmt: skip
    assert type(readings["static.macs"]) is int
    assert notes == []


def test_counters_that_differ_by_one_are_unverified_and_said() -> None:
    readings, notes = values(count_macs(expecting(121), Options()))
    assert readings["static.verified"] is False
    assert [(note.kind, note.text) for note in notes] == [
        ("unverified", "the counters disagree on the MACs: fvcore 120, torch 120, formula 121")
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


def without_handles(subject: Subject) -> int:
    """What fvcore says by itself."""
    from fvcore.nn import FlopCountAnalysis

    with torch.no_grad():
        analysis = FlopCountAnalysis(subject.module, subject.inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        return int(analysis.total())


@pytest.mark.parametrize(
    ("function", "shapes", "macs", "alone"),
    [
        (fused, QKV, ATTENTION, 0),  # no handle at all
        (plain, QKV, ATTENTION, ATTENTION),  # the control of the control: here fvcore is right
        (lambda a, b: a @ b, [(4, 5), (2, 3, 5, 6)], 720, 120),  # the left operand's size times the last of the right
        (lambda a, b: (a * b).sum(-1), [(4, 5), (4, 5)], 20, 0),
        (torch.mv, [(4, 5), (5,)], 20, 0),
        (torch.baddbmm, [(3, 4, 6), (3, 4, 5), (3, 5, 6)], 360, 0),
        (lambda a: F.layer_norm(a, (5,)), [(4, 5)], 0, 80),  # norms stand in the same total
    ],
)
def test_fvcore_without_our_handles_is_wrong_where_they_say_so(
    function: Any, shapes: Any, macs: int, alone: int
) -> None:
    subject = subject_of(function, *shapes, where="cpu")
    assert counted(subject) == macs
    assert without_handles(subject) == alone


def network(make: Callable[[], nn.Module]) -> Subject:
    with torch.device("meta"):
        return Subject(Case("x", kind="network"), make().eval(), (torch.empty(1, 3, 224, 224),), "meta")


def vit_b_16_by_hand() -> int:
    n, c = 197, 768
    layer = 4 * n * c * c + 2 * n * n * c + 2 * n * c * 4 * c
    return 196 * c * 3 * 16 * 16 + 12 * layer + c * 1000


def resnet50_by_hand() -> int:
    total = 64 * 112**2 * 3 * 49 + 2048 * 1000
    channels = 64
    for width, blocks, side in ((64, 3, 56), (128, 4, 28), (256, 6, 14), (512, 3, 7)):
        for block in range(blocks):
            first = block == 0
            before = side * 2 if first and width > 64 else side  # the 3x3 filter has the stride
            total += channels * width * before**2 + 9 * width**2 * side**2 + width * 4 * width * side**2
            total += channels * 4 * width * side**2 if first else 0
            channels = 4 * width
    return total


def check_network(make: Callable[[], nn.Module], macs: int, params: int) -> None:
    subject = network(make)
    assert counted(subject) == torch_macs(subject) == macs
    assert values(count_parameters(subject, Options()))[0]["static.params"] == params


def test_the_published_figures_by_hand() -> None:
    assert (vit_b_16_by_hand(), resnet50_by_hand()) == (17_563_828_224, 4_089_184_256)


def test_vit_of_timm() -> None:
    timm = pytest.importorskip("timm")
    check_network(lambda: timm.create_model("vit_base_patch16_224"), 17_563_828_224, 86_567_656)


def test_vit_and_resnet_of_torchvision() -> None:
    models = pytest.importorskip("torchvision.models")
    check_network(models.vit_b_16, 17_563_828_224, 86_567_656)
    check_network(models.resnet50, 4_089_184_256, 25_557_032)
