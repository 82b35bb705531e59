"""fvcore with our handles against integers derived by hand: exact, or the operator is named, or the tracer says why."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from counted_forms import CONVOLUTIONS, EINSUMS, PRODUCTS, RECURRENT, SUMS, TRANSPOSED
from metrics_subjects import Body, Make, subject_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attnbench.core.case import Case
from attnbench.metrics.counters.einsum import einsum_macs
from attnbench.metrics.counters.flop_counter import torch_macs
from attnbench.metrics.counters.fvcore import fvcore_macs
from attnbench.metrics.counters.tracing import Traceable
from attnbench.metrics.subject import Subject

B, H, N, D = 2, 3, 5, 7  # batch, heads, tokens, channels of a head
QKV = [(B, H, N, D)] * 3

on_meta_and_cpu = pytest.mark.parametrize("where", ["meta", "cpu"])


def each_of(table: Sequence[tuple[Any, ...]], names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(names, [row[1:] for row in table], ids=[row[0] for row in table])


def counted(subject: Subject) -> int:
    """fvcore's count with our handles; nothing may be left uncounted."""
    by_op, uncounted = fvcore_macs(subject)
    assert not uncounted
    assert all(type(macs) is int for macs in by_op.values())
    return by_op.total()


def layer_on(make: Make, shape: Sequence[int], where: str = "meta") -> Subject:
    return subject_of(lambda layer, x: layer(x), shape, parts=[make], where=where)


# --- operators ----------------------------------------------------------------------------------------------------


@on_meta_and_cpu
@each_of([*PRODUCTS, *SUMS], "function, shapes, macs")
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


@pytest.mark.parametrize(("path", "macs"), [
    # (2, 3) (3, 5) (5, 7) (7, 11): from the left, the two halves first, from the right, from the middle
    (None, 2 * 3 * 5 + 2 * 5 * 7 + 2 * 7 * 11),
    ([0, 1, 0, 1, 0, 1], 2 * 3 * 5 + 5 * 7 * 11 + 2 * 5 * 11),
    ([2, 3, 1, 2, 0, 1], 5 * 7 * 11 + 3 * 5 * 11 + 2 * 3 * 11),
    ([3, 2, 2, 1, 1, 0], 5 * 7 * 11 + 3 * 5 * 11 + 2 * 3 * 11),
    ([1, 2, 0, 2, 0, 1], 3 * 5 * 7 + 2 * 3 * 7 + 2 * 7 * 11),
])  # fmt: skip
def test_an_einsum_along_a_path(path: Any, macs: int) -> None:
    """torch passes one where opt_einsum is installed."""
    subject = subject_of(
        lambda *matrices: torch.ops.aten.einsum("ij,jk,kl,lm->im", matrices, path=path), (2, 3), (3, 5), (5, 7), (7, 11)
    )
    assert counted(subject) == torch_macs(subject) == macs


@on_meta_and_cpu
@each_of(CONVOLUTIONS, "make, shape, macs")
def test_convolutions(make: Make, shape: Any, macs: int, where: str) -> None:
    subject = layer_on(make, shape, where)
    assert counted(subject) == torch_macs(subject) == macs


@pytest.mark.parametrize("padding", [1, (1,), (1, 1), [1, 1], torch.Size([1])], ids=str)
def test_a_functional_convolution_with_every_spelling_of_its_padding(padding: Any) -> None:
    subject = subject_of(lambda x, w: F.conv2d(x, w, padding=padding), (2, 4, 9, 9), (6, 4, 3, 3))
    assert counted(subject) == 2 * 6 * 81 * 36


@on_meta_and_cpu
@each_of(TRANSPOSED, "make, shape, macs")
def test_transposed_convolutions(make: Make, shape: Any, macs: int, where: str) -> None:
    assert counted(layer_on(make, shape, where)) == macs


@each_of(TRANSPOSED, "make, shape, macs")
def test_a_transposed_convolution_keeps_its_shape_under_the_tracer(make: Make, shape: Any, macs: int) -> None:
    layer, x = make(), torch.empty(shape)
    with Traceable(meta=True):
        traced = layer(x)
    assert traced.shape == layer(x).shape


@on_meta_and_cpu
def test_a_convolution_over_time_batch_channels(where: str) -> None:
    """conv_tbc: T + 2 pad - k + 1 = 9 steps, a batch of 2, 6 channels, each a sum over 3 taps of 4 channels."""
    subject = subject_of(lambda x, w, b: torch.conv_tbc(x, w, b, 1), (9, 2, 4), (3, 4, 6), (6,), where=where)
    assert counted(subject) == 9 * 2 * 6 * 3 * 4


@on_meta_and_cpu
@each_of(RECURRENT, "make, shape, macs")
def test_recurrent_layers(make: Make, shape: Any, macs: int, where: str) -> None:
    subject = layer_on(make, shape, where)
    assert counted(subject) == macs


def test_packed_sequences_are_counted_by_their_tokens() -> None:
    def packed(layer: nn.LSTM, x: Tensor) -> Tensor:
        return layer(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 2, 1])))[0].data

    subject = subject_of(packed, (3, 3, 5), parts=[lambda: nn.LSTM(5, 6)], where="cpu")
    assert counted(subject) == (3 + 2 + 1) * 4 * 6 * (5 + 6)


# --- attention ----------------------------------------------------------------------------------------------------

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


def with_scaled_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q.unsqueeze(3) * k.unsqueeze(2) * D**-0.5).float().sum(-1).softmax(-1)
    return (v.unsqueeze(2) * weights.unsqueeze(-1)).transpose(2, 3).sum(2)


def by_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([plain(row, k, v) for row in q.split(1, dim=-2)], dim=-2)


def by_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.vmap(torch.vmap(plain))(q, k, v)


def by_sample(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.vmap(F.scaled_dot_product_attention)(q, k, v)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def fused_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


FORMS = [plain, with_bmm, with_einsum, with_sums, with_scaled_sums, by_row, by_head, by_sample, fused, fused_causal]


@on_meta_and_cpu
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_the_same_attention_in_every_form_has_the_same_count(form: Any, where: str) -> None:
    assert counted(subject_of(form, *QKV, where=where)) == ATTENTION


@on_meta_and_cpu
def test_fused_attention_with_other_sizes(where: str) -> None:
    shapes = [(2, 4, 5, 8), (2, 4, 9, 8), (2, 4, 9, 6)]
    assert counted(subject_of(fused, *shapes, where=where)) == 2 * 4 * 5 * 9 * (8 + 6)
    grouped = subject_of(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
                         (2, 4, 5, 8), (2, 2, 9, 8), (2, 2, 9, 8), where=where)  # fmt: skip
    assert counted(grouped) == 2 * 4 * 5 * 9 * 16


def test_the_kernel_under_fused_attention() -> None:
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    subject = subject_of(lambda q, k, v: kernel(q, k, v)[0], *QKV, where="cpu")
    assert fvcore_macs(subject) == ({"scaled_dot_product_attention": ATTENTION}, {})


# N = 7 tokens, C = 8: 4NC² for the projections, 2N²C for the two products; batch 2.
MHA = 2 * (4 * 7 * 64 + 2 * 49 * 8)
LAYER = MHA + 2 * 2 * 7 * 8 * 16  # and two layers of 16 channels


@on_meta_and_cpu
@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_in_eval(need_weights: bool, where: str) -> None:
    subject = subject_of(lambda layer, x: layer(x, x, x, need_weights=need_weights)[0], (2, 7, 8),
                         parts=[lambda: nn.MultiheadAttention(8, 2, batch_first=True)], where=where)  # fmt: skip
    assert counted(subject) == MHA


def encoder_layer() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


@on_meta_and_cpu
@pytest.mark.parametrize(
    ("make", "layers"), [(encoder_layer, 1), (lambda: nn.TransformerEncoder(encoder_layer(), 3), 3)], ids=["1", "3"]
)
def test_a_transformer_in_eval(make: Any, layers: int, where: str) -> None:
    assert counted(layer_on(make, (2, 7, 8), where)) == layers * LAYER
    assert torch.backends.mha.get_fastpath_enabled()  # put back after counting


def fused_heads(layer: nn.TransformerEncoderLayer, query: Tensor, key: Tensor) -> Any:
    own = layer.self_attn
    return torch._native_multi_head_attention(query, key, key, 8, 2, own.in_proj_weight, own.in_proj_bias,
                                              own.out_proj.weight, own.out_proj.bias)[0]  # fmt: skip


def fused_layer(layer: nn.TransformerEncoderLayer, x: Tensor) -> Tensor:
    own = layer.self_attn
    return torch._transformer_encoder_layer_fwd(
        x, 8, 2, own.in_proj_weight, own.in_proj_bias, own.out_proj.weight, own.out_proj.bias, False, False, 1e-5,
        layer.norm1.weight, layer.norm1.bias, layer.norm2.weight, layer.norm2.bias, layer.linear1.weight,
        layer.linear1.bias, layer.linear2.weight, layer.linear2.bias)  # fmt: skip


def test_the_fused_paths_of_a_transformer_by_name() -> None:
    heads = subject_of(lambda layer, x: fused_heads(layer, x, x), (2, 7, 8), parts=[encoder_layer], where="cpu")
    assert fvcore_macs(heads) == ({"_native_multi_head_attention": MHA}, {})
    layer = subject_of(fused_layer, (2, 7, 8), parts=[encoder_layer], where="cpu")
    assert fvcore_macs(layer) == ({"_transformer_encoder_layer_fwd": LAYER}, {})


def test_the_fused_path_with_other_keys() -> None:
    """7 queries and 4 keys: two projections of each, and two products of all pairs."""
    subject = subject_of(fused_heads, (2, 7, 8), (2, 4, 8), parts=[encoder_layer])
    try:
        subject.forward()
    except NotImplementedError:
        pytest.skip("this torch has no form without data of that operator")
    assert counted(subject) == 2 * (2 * 7 * 64 + 2 * 4 * 64 + 2 * 7 * 4 * 8)


# --- what nobody knows --------------------------------------------------------------------------------------------


class Opaque(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient


@torch.library.custom_op("attnbench_tests::traced_product", mutates_args=())
def custom_product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


@custom_product.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


def forked(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.jit.wait(torch.jit.fork(layer, x))


UNKNOWN: list[tuple[str, Callable[..., Any], Sequence[Sequence[int]], Sequence[Make], str]] = [
    ("torch.library", custom_product, [(4, 5), (5, 6)], [], "attnbench_tests::traced_product"),
    ("fork", forked, [(4, 5)], [lambda: nn.Linear(5, 6)], "prim::fork"),
    ("cdist", torch.cdist, [(4, 5), (6, 5)], [], "aten::cdist"),
    ("matrix_power", lambda a: torch.matrix_power(a, 3), [(4, 4)], [], "aten::linalg_matrix_power"),
    ("matrix_exp", torch.matrix_exp, [(4, 4)], [], "aten::linalg_matrix_exp"),
    ("inverse", torch.linalg.inv, [(4, 4)], [], "aten::linalg_inv"),
    ("solve", torch.linalg.solve, [(4, 4), (4, 2)], [], "aten::linalg_solve"),
    ("svd", lambda a: torch.linalg.svd(a)[1], [(4, 4)], [], "aten::linalg_svd"),
    ("norm by singular values", lambda a: torch.linalg.norm(a, "nuc"), [(4, 5)], [], "aten::linalg_norm"),
    ("matrix norm by singular values", lambda a: torch.linalg.matrix_norm(a, 2), [(4, 5)], [],
     "aten::linalg_matrix_norm"),
    ("affine_grid", lambda a: F.affine_grid(a, [2, 3, 4, 5]), [(2, 2, 3)], [], "aten::affine_grid_generator"),
    ("nansum of a product", lambda a, b: torch.nansum(a * b), [(4, 5), (4, 5)], [], "aten::nansum"),
]  # fmt: skip


@each_of(UNKNOWN, "function, shapes, parts, name")
def test_what_nobody_knows_is_named(function: Any, shapes: Any, parts: Any, name: str) -> None:
    def known_and_unknown(*given: Any) -> Tensor:
        return given[-1] @ given[-1].mT + function(*given[:-1]).sum()

    by_op, uncounted = fvcore_macs(subject_of(known_and_unknown, *shapes, (2, 3), parts=parts))
    assert uncounted == {name: 1}
    assert by_op == {"matmul": 12}  # what is known is counted all the same


def test_a_function_with_a_gradient_of_its_own_is_named() -> None:
    """What it calls by name is counted, but a kernel of its own would not be seen."""
    by_op, uncounted = fvcore_macs(subject_of(lambda a, b: Opaque.apply(a, b) + 1, (4, 5), (5, 6)))
    assert uncounted == {"prim::PythonOp.Opaque": 1}
    assert by_op == {"matmul": 120}


def product(a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(a, b)


def product_or_not(a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(a, b) if bool(a.sum() > 0) else b


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_function_is_named() -> None:
    assert fvcore_macs(subject_of(torch.jit.script(product), (4, 5), (5, 6)))[1] == {"prim::CallFunction": 1}
    branches = subject_of(torch.jit.script(product_or_not), (4, 4), (4, 4), where="cpu")
    assert fvcore_macs(branches)[1] == {"prim::CallFunction": 1}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_part_is_refused_and_not_passed_over() -> None:
    subject = layer_on(lambda: nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 4))), (3, 4), "cpu")
    with pytest.raises(RuntimeError, match="not part of the active trace"):
        fvcore_macs(subject)
    assert counted(layer_on(lambda: nn.Linear(4, 4), (3, 4))) == 48
    assert hooks_on(subject.module) == 0


HARMLESS: list[Callable[[Tensor], Any]] = [
    lambda x: x.mT,
    lambda x: x.mH,
    lambda x: x.adjoint(),
    lambda x: torch.addcmul(x, x, x),
    lambda x: (x > 0) | (x < 1),
    lambda x: (x > 0) ^ (x < 1),
    lambda x: ~(x > 0),
    lambda x: x.square().sum(),
    lambda x: x.norm(),
    lambda x: torch.linalg.norm(x),
    lambda x: torch.linalg.norm(x, 2, -1),
    lambda x: torch.linalg.matrix_norm(x, "fro"),
    lambda x: x.roll(1, 0),
    lambda x: F.gelu(x),
    lambda x: F.rms_norm(x, (5,)),
    lambda x: F.group_norm(x[None], 2),
    lambda x: F.batch_norm(x, None, None, training=True),
    lambda x: x.topk(2).values,
    lambda x: x.sort(-1).indices,
    lambda x: x.unfold(1, 2, 1),
    lambda x: F.fold(F.unfold(x[None, None], 2), (4, 5), 2),
    lambda x: F.interpolate(x[None, None], scale_factor=2),
    lambda x: F.interpolate(x[None, None], size=(7, 9), mode="bicubic", antialias=True),
    lambda x: F.grid_sample(x[None, None], x[None, :, :2, None].expand(1, 4, 2, 2), align_corners=False),
    lambda x: F.pixel_unshuffle(x[None, :, None, :4], 1),
    lambda x: F.adaptive_avg_pool1d(x, 2),
    lambda x: F.max_pool1d(x, 2, return_indices=True),
    lambda x: F.dropout(x, 0.5, training=True),
    lambda x: F.mse_loss(x, x + 1),
    lambda x: x.masked_fill(x > 0, 1),
    lambda x: x.softmax(-1),
    lambda x: x.clone().fill_(1),
    lambda x: x.scatter(0, x.argsort(0), x),
    lambda x: torch.zeros_like(x).index_add_(0, torch.arange(4), x),
    lambda x: torch.logcumsumexp(x, 0),
    lambda x: x.flip(0).diff(),
    lambda x: torch.hann_window(5) * x,
    lambda x: torch.block_diag(x, x),
    lambda x: torch.bernoulli(x.sigmoid()),
    lambda x: torch.nansum(x),
    lambda x: torch.cross(x[:, :3], x[:, 1:4], -1),
    lambda x: torch.view_as_real(torch.polar(x, x)),
    lambda x: F.pairwise_distance(x, x + 1),
    # The work of a transform is counted in a column of its own.
    lambda x: torch.fft.fft(x).real,
    lambda x: torch.fft.irfft2(torch.fft.rfft2(x)),
    lambda x: torch.fft.fftshift(torch.fft.fftn(x)).abs(),
    lambda x: torch.stft(x, 4, window=torch.ones(4), return_complex=True).abs(),
]


@pytest.mark.parametrize("function", HARMLESS, ids=range(len(HARMLESS)))
def test_what_holds_no_contraction_is_no_alarm(function: Any) -> None:
    assert fvcore_macs(subject_of(function, (4, 5))) == ({}, {})


def test_rows_that_are_looked_up_and_summed_hold_products_only_if_they_are_weighted() -> None:
    which = torch.zeros(3, 2, dtype=torch.long)
    bag = subject_of(lambda table: F.embedding_bag(which, table, mode="sum"), (10, 4), where="cpu")
    assert fvcore_macs(bag) == ({}, {})
    weighted = subject_of(lambda table, weights: F.embedding_bag(which, table, mode="sum", per_sample_weights=weights),
                          (10, 4), (3, 2), where="cpu")  # fmt: skip
    assert fvcore_macs(weighted) == ({}, {"aten::embedding_bag": 1})


# --- odd modules --------------------------------------------------------------------------------------------------


@dataclass
class Output:
    last: Tensor
    weights: Tensor | None = None
    loss: float = 0.0


class Functional(nn.Module):
    """A weight outside any layer, tied to a layer's, and a buffer that is made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.weight = self.layer.weight
        self.other = nn.Parameter(torch.empty(6, 4))
        self.register_buffer("table", torch.zeros(4, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(self.layer(x), self.weight) @ self.weight.T  # 3 of 4 * 4
        self.kept = F.linear(x, self.other) @ torch.ones(6, 4)  # 2 of 6 * 4
        return self.kept @ self.table  # 4 * 3


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.again = self.layer

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.layer(self.layer(x)))


class Compiled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wrapped = torch.compile(nn.Linear(4, 4))
        self.own = nn.Linear(4, 4)
        self.own.compile()

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self.wrapped(x))


class InPlace(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        out = torch.zeros(4, 6)
        out.addmm_(a, b).mul_(2)
        torch.mm(a, b, out=out)
        return out.relu_().add_(1)


def autocast(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return layer(layer(x))


def as_output(a: Tensor, b: Tensor) -> Output:
    return Output(a @ b, None)


def as_mapping(a: Tensor, b: Tensor) -> Mapping[str, Any]:
    return {"last": [a @ b], "none": None, "number": 3, "name": "x"}


def complex_rotation(a: Tensor, b: Tensor) -> Tensor:
    """Rotary embedding: complex numbers multiplied element by element, and then a real product."""
    turned = torch.view_as_real(torch.view_as_complex(a.view(4, 3, 2)) * torch.polar(b.new_ones(3), b[0, :3]))
    return turned.flatten(1) @ b


def remembered(a: Tensor, b: Tensor) -> Tensor:
    """Scores are kept for nobody, or pooled for a loss that is not returned."""
    scores = a @ b
    scores.mul_(2).softmax(-1).mean()
    (a * a.roll(1, 0)).sum()
    return a + 1


ODD: list[tuple[str, Callable[..., Any], Sequence[Sequence[int]], Sequence[Make], int]] = [
    ("functional and tied", lambda m, x: m(x), [(3, 4)], [Functional], 3 * (3 * 16 + 2 * 24 + 12)),
    ("called three times", lambda m, x: m(x), [(3, 4)], [Twice], 3 * 3 * 16),
    ("in place", lambda m, a, b: m(a, b), [(4, 5), (5, 6)], [InPlace], 2 * 120),
    ("compiled parts", lambda m, x: m(x), [(3, 4)], [Compiled], 2 * 48),
    ("autocast", autocast, [(3, 4)], [lambda: nn.Linear(4, 4)], 2 * 48),
    ("checkpoint", lambda m, x: checkpoint(m, x, use_reentrant=False), [(3, 4)], [lambda: nn.Linear(4, 6)], 72),
    ("a dataclass", as_output, [(4, 5), (5, 6)], [], 120),
    ("a mapping", as_mapping, [(4, 5), (5, 6)], [], 120),
    ("a number", lambda a, b: (a @ b, 3.0)[1], [(4, 5), (5, 6)], [], 120),
    ("nothing at all", lambda a: None, [(4, 5)], [], 0),
    ("an input that comes out", lambda a, b: (a, a, a @ b), [(4, 5), (5, 6)], [], 120),
    ("complex rotation", complex_rotation, [(4, 6), (6, 5)], [], 4 * 6 * 5),
    ("work for nobody", remembered, [(4, 5), (5, 6)], [], 120 + 20),
    ("heads for nobody", lambda m, x: (m(x, x, x), x)[1] + 1, [(2, 7, 8)],
     [lambda: nn.MultiheadAttention(8, 2, batch_first=True)], MHA),
    ("vmap", lambda m, x: torch.vmap(m)(x), [(2, 3, 4)], [lambda: nn.Linear(4, 6)], 2 * 72),
    ("vmap of vmap", lambda a, b: torch.vmap(torch.vmap(torch.dot))(a, b), [(2, 3, 4)] * 2, [], 24),
]  # fmt: skip


@on_meta_and_cpu
@each_of(ODD, "function, shapes, parts, macs")
def test_odd_modules(function: Any, shapes: Any, parts: Any, macs: int, where: str) -> None:
    assert counted(subject_of(function, *shapes, parts=parts, where=where)) == macs


def test_inputs_that_are_no_tensors_are_handed_on_as_they_are() -> None:
    def tokens_of(x: Tensor, height: int, mask: None, mode: str) -> Tensor:
        assert type(height) is int
        assert (mask, mode) == (None, "rows")
        return x.view(height, -1) @ x.view(-1, height)

    subject = subject_of(tokens_of, (3, 4))
    subject.inputs = (*subject.inputs, 2, None, "rows")
    assert counted(subject) == 2 * 6 * 2


@pytest.mark.parametrize("function", [
    lambda m, x: checkpoint(m, x, use_reentrant=True),
    lambda m, x: torch.compile(m)(x),
    lambda m, x: torch.func.grad(lambda each: m(each).sum())(x),
], ids=["re-entrant checkpoint", "compiled on the way", "gradients on the way"])  # fmt: skip
def test_what_the_tracer_refuses_is_an_error_and_no_small_number(function: Any) -> None:
    before = counted(layer_on(lambda: nn.Linear(4, 4), (3, 4)))
    subject = subject_of(function, (3, 4), parts=[lambda: nn.Linear(4, 4)])
    with pytest.raises((RuntimeError, NotImplementedError, IndexError)):
        fvcore_macs(subject)
    assert hooks_on(subject.module) == 0
    assert counted(layer_on(lambda: nn.Linear(4, 4), (3, 4))) == before == 48


# --- nothing is left behind ---------------------------------------------------------------------------------------


def hooks_on(module: nn.Module) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules())


class Failing(nn.Module):
    """A block whose second layer fails, as long as it is told to."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.broken = Broken(how)

    def forward(self, x: Tensor) -> Tensor:
        return self.broken(self.before(x))


class Broken(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.layer = how, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        if self.how == "raises":
            raise RuntimeError("the module's own reason")
        if self.how == "looks at values":
            return x[:, : int(x.sum().item())]
        if self.how == "raises within vmap":
            return torch.vmap(lambda row: F.linear(row, row[:2].repeat(3, 3)))(x)
        if self.how == "interrupted":
            raise KeyboardInterrupt
        return F.linear(x, x.T) if self.how == "shapes that do not fit" else x


HOWS = ["raises", "looks at values", "raises within vmap", "shapes that do not fit", "interrupted"]


@pytest.mark.parametrize("how", HOWS)
def test_a_failed_trace_does_not_spoil_the_next_count(how: str) -> None:
    good = subject_of(lambda a, b, x: b(a(x).relu()), (3, 4), parts=[lambda: nn.Linear(4, 8), lambda: nn.Linear(8, 4)])
    bad = layer_on(lambda: Failing(how), (3, 4))
    (part,) = bad.module.parts
    for _ in range(2):
        part.broken.how = how
        with pytest.raises((Exception, KeyboardInterrupt)):
            fvcore_macs(bad)
        assert counted(good) == 2 * 3 * 4 * 8
        part.broken.how = "mended"
        assert counted(bad) == 2 * 3 * 4 * 4
    assert hooks_on(bad.module) == 0
    assert torch._C._get_tracing_state() is None
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_failure_that_the_module_survives_is_no_failure() -> None:
    def second_try(part: Failing, x: Tensor) -> Tensor:
        try:
            return part(x)
        except RuntimeError:
            return x @ x.T  # after two layers

    subject = subject_of(second_try, (3, 4), parts=[lambda: Failing("raises")])
    assert counted(subject) == 2 * 3 * 16 + 3 * 4 * 3


def leave_alone(module: nn.Module, inputs: Any) -> None:
    """A hook of the user's own."""


def state_of(module: nn.Module) -> Iterator[Any]:
    for path, each in module.named_modules():
        yield path, id(each), each.training, each.__class__, id(vars(each).get("forward"))
        yield from (id(hook) for hook in (*each._forward_hooks.values(), *each._forward_pre_hooks.values()))
        yield from ((name, id(own)) for name, own in (*each._parameters.items(), *each._buffers.items()))
        yield id(each._compiled_call_impl)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("how", ["mended", "raises"])
def test_the_module_is_left_as_it_was(how: str, training: bool) -> None:
    subject = subject_of(lambda a, b, c, x: c(b(a(x))), (3, 4), parts=[Compiled, Functional, lambda: Failing(how)])
    subject.module.parts[1].register_buffer("table", torch.zeros(4, 4, device="meta"), persistent=False)
    subject.module.train(training)
    subject.module.parts[2].eval()
    subject.module.register_forward_pre_hook(leave_alone)
    before = list(state_of(subject.module))
    if how == "raises":
        with pytest.raises(RuntimeError, match="the module's own reason"):
            fvcore_macs(subject)
    else:
        assert counted(subject) == 3 * (2 * 16 + 3 * 16 + 2 * 24 + 16 + 2 * 16)
    assert list(state_of(subject.module)) == before


def test_a_module_whose_parts_have_names_like_paths() -> None:
    """fvcore splits the paths of parts at slashes."""
    module = Body(lambda parts, x: parts["a/b"](x), [nn.ModuleDict({"a/b": nn.Linear(4, 4)})])
    subject = Subject(Case("x"), module, (torch.empty(3, 4),), "cpu")
    assert counted(subject) == 48


def test_a_count_works_in_a_process_that_has_counted_nothing_yet() -> None:
    """Nothing that another count loads or sets up is needed."""
    script = (
        "import torch\nfrom attnbench.core.case import Case\nfrom attnbench.metrics.subject import Subject\n"
        "from attnbench.metrics.counters.fvcore import fvcore_macs\n"
        "print(fvcore_macs(Subject(Case('x'), torch.nn.LSTM(5, 6), (torch.ones(3, 4, 5),), 'cpu')))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"(Counter({{'lstm': {12 * 4 * 6 * 11}}}), Counter())"


# --- fvcore alone, and whole networks -----------------------------------------------------------------------------


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
        (remembered, [(4, 5), (5, 6)], 140, 0),  # the tracer drops what nobody uses
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
    assert sum(each.numel() for each in subject.module.parameters()) == params


def test_the_published_figures_by_hand() -> None:
    assert (vit_b_16_by_hand(), resnet50_by_hand()) == (17_563_828_224, 4_089_184_256)


def test_vit_of_timm() -> None:
    timm = pytest.importorskip("timm")
    check_network(lambda: timm.create_model("vit_base_patch16_224"), 17_563_828_224, 86_567_656)


def test_vit_and_resnet_of_torchvision() -> None:
    models = pytest.importorskip("torchvision.models")
    check_network(models.vit_b_16, 17_563_828_224, 86_567_656)
    check_network(models.resnet50, 4_089_184_256, 25_557_032)


class Asks(nn.Module):
    """Keeps a tensor for its side when it is traced, as the windows of transformers' Swin do."""

    def __init__(self) -> None:
        super().__init__()
        self.side: Any = None
        self.proj = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.side = torch.min(torch.tensor(x.shape[1:])) if torch.jit.is_tracing() else min(x.shape[1:])
        return self.proj(F.pad(x, (0, 0, 0, self.side)))


def test_a_module_that_asks_whether_it_is_traced_does_what_a_run_does() -> None:
    with torch.device("meta"):
        subject = Subject(Case("asks"), Asks(), (torch.empty(2, 6, 4),), "meta")
    assert counted(subject) == 2 * (6 + 4) * 4 * 4
    assert type(subject.module.side) is int
    assert not torch.jit.is_tracing()
