"""The counter at the dispatcher: break-downs, other work and backwards against figures derived by hand."""

import math
from typing import Any

import pytest
import torch
from counted_forms import CONVOLUTIONS, EINSUMS, PRODUCTS, RECURRENT, SUMS, TRANSPOSED
from metrics_subjects import subject_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attnbench.core.case import Case
from attnbench.metrics.counters.count import Count
from attnbench.metrics.counters.dispatch import dispatch_count
from attnbench.metrics.subject import Subject

B, H, N, D = 2, 3, 5, 7  # batch, heads, tokens, channels of a head
QKV = [(B, H, N, D)] * 3
PAIRS = B * H * N * N


def forward(function: Any, *shapes: Any, **given: Any) -> Count:
    return dispatch_count(subject_of(function, *shapes, **given))


def backward(function: Any, *shapes: Any, **given: Any) -> Count:
    return dispatch_count(subject_of(function, *shapes, mode="fwd_bwd", **given), backward=True)


# --- forms counted by hand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize(
    ("function", "shapes", "macs"), [form[1:] for form in PRODUCTS + SUMS], ids=[form[0] for form in PRODUCTS + SUMS]
)
def test_products_and_sums_of_products(function: Any, shapes: Any, macs: int, where: str) -> None:
    count = forward(function, *shapes, where=where)
    assert (count.macs, dict(count.uncounted)) == (macs, {})


@pytest.mark.parametrize(("equation", "shapes", "macs"), EINSUMS)
def test_einsum(equation: str, shapes: Any, macs: int) -> None:
    assert forward(lambda *operands: torch.einsum(equation, *operands), *shapes).macs == macs


LAYERS = CONVOLUTIONS + TRANSPOSED + RECURRENT


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize(("make", "shape", "macs"), [each[1:] for each in LAYERS], ids=[each[0] for each in LAYERS])
def test_layers(make: Any, shape: Any, macs: int, where: str) -> None:
    count = forward(lambda layer, x: layer(x), shape, parts=[make], where=where)
    assert (count.macs, dict(count.uncounted)) == (macs, {})


# --- who did it ---------------------------------------------------------------------------------------------------


def everything(a: Tensor, b: Tensor) -> Tensor:
    """(4, 5) and (5, 6): 120 MACs each time."""
    return a @ b + torch.mm(a, b) + torch.einsum("ij,jk->ik", a, b) + F.linear(a, b.T) + torch.addmm(a @ b, a, b)


def test_operators_bear_the_names_that_the_module_called_them_by() -> None:
    assert forward(everything, (4, 5), (5, 6)).by_op == {
        "matmul": 240, "mm": 120, "einsum": 120, "linear": 120, "addmm": 120,
    }  # fmt: skip


def test_kernels_bear_the_names_of_the_dispatcher() -> None:
    by_kernel = forward(everything, (4, 5), (5, 6)).by_kernel
    assert by_kernel == {"aten.mm": 4 * 120, "aten.bmm": 120, "aten.addmm": 120}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) @ x.new_ones(4, 2)  # 2 * 3 * 4 * 2 = 48 of its own


def test_each_module_counts_its_children_too() -> None:
    count = forward(lambda block, single, x: single(block(x)), (2, 3, 4), parts=[Block, lambda: nn.Linear(2, 5)])
    assert count.by_module == {
        "": 2 * 144 + 48 + 60,
        "parts.0": 2 * 144 + 48,
        "parts.0.first": 144,  # 6 rows, 4 x 6
        "parts.0.second": 144,
        "parts.1": 60,  # 6 rows, 2 x 5
    }


def test_a_module_that_is_called_twice_counts_twice_and_a_shared_one_under_its_first_name() -> None:
    layer = nn.Linear(4, 4)
    module = nn.Sequential(layer, nn.ReLU(), layer)
    count = dispatch_count(Subject(Case("twice"), module, (torch.zeros(3, 4),), "cpu"))
    assert count.by_module == {"": 96, "0": 96}


def test_a_raising_module_leaves_no_hook_and_no_name_behind() -> None:
    def fails(layer: nn.Module, x: Tensor) -> Tensor:
        layer(x)
        raise RuntimeError("its own reason")

    with pytest.raises(RuntimeError, match="its own reason"):
        forward(fails, (3, 4), parts=[lambda: nn.Linear(4, 4)])
    assert not nn.modules.module._global_forward_pre_hooks
    assert not nn.modules.module._global_forward_hooks
    assert torch.backends.mha.get_fastpath_enabled()
    assert forward(lambda layer, x: layer(x), (3, 4), parts=[lambda: nn.Linear(4, 4)]).by_op == {"linear": 48}


# --- ways of being run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["meta", "cpu"])
def test_in_inference_mode_composite_operators_are_taken_apart(where: str) -> None:
    def inferring(layer: nn.Module, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return layer(x, x, x, need_weights=False)[0]

    subject = subject_of(inferring, (2, 7, 8), parts=[lambda: nn.MultiheadAttention(8, 2, batch_first=True)],
                         where=where)  # fmt: skip
    subject.module.eval()
    count = dispatch_count(subject)
    assert count.macs == 2 * (4 * 7 * 64 + 2 * 49 * 8)  # 4NC² and 2N²C
    assert not count.uncounted


def test_flex_attention_is_the_two_products() -> None:
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    if not hasattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"):
        pytest.skip("this torch cannot run flex_attention without compiling it")

    def biased(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flex.flex_attention(q, k, v, score_mod=lambda score, b, h, i, j: score + (i - j))

    for where in ("meta", "cpu"):
        assert forward(biased, *[(1, 2, 64, 16)] * 3, where=where).by_op == {"flex_attention": 2 * 2 * 64 * 64 * 16}


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("wrap", [torch.jit.script, torch.compile], ids=["scripted", "compiled"])
def test_scripted_and_compiled_children(wrap: Any) -> None:
    count = forward(lambda layer, x: layer(x), (2, 3, 4), parts=[lambda: wrap(nn.Linear(4, 6))], where="cpu")
    assert (count.macs, dict(count.uncounted)) == (2 * 3 * 4 * 6, {})


UNKNOWN = [
    (torch.linalg.inv, [(4, 4)], "aten.linalg_inv_ex"),
    (lambda a: torch.linalg.qr(a)[0], [(4, 4)], "aten.linalg_qr"),
    (lambda a, b: torch.cdist(a, b, p=1), [(4, 5), (6, 5)], "aten._cdist_forward"),
    (lambda a, b: torch.ops.attnbench_dispatch.product(a, b), [(4, 5), (5, 6)], "attnbench_dispatch.product"),
]


@torch.library.custom_op("attnbench_dispatch::product", mutates_args=())
def custom_product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


@custom_product.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


@pytest.mark.parametrize(("function", "shapes", "name"), UNKNOWN, ids=[case[2] for case in UNKNOWN])
def test_what_nobody_knows_is_named_and_the_rest_counted(function: Any, shapes: Any, name: str) -> None:
    count = forward(lambda *given: (function(*given[:-1]), given[-1] @ given[-1].mT)[1], *shapes, (2, 3))
    assert name in count.uncounted
    assert count.by_op == {"matmul": 12}


def test_a_custom_autograd_function_is_seen_into() -> None:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            a, b = ctx.saved_tensors
            return grad @ b.T, a.T @ grad

    count = backward(Product.apply, (4, 5), (5, 6))
    assert (count.macs, count.backward, count.recomputed) == (120, 240, 0)


# --- sums of products ---------------------------------------------------------------------------------------------


def scaled_and_reshaped(a: Tensor, b: Tensor) -> Tensor:
    return ((a * b).view(2, 4, 4).transpose(1, 2).reshape(8, 4) * 0.5).sum(-1)


TRACKED = [
    ("scaled, transposed and reshaped before the sum", scaled_and_reshaped, [(8, 4), (8, 4)], 32),
    ("cast before the sum", lambda a, b: (a * b).double().sum(), [(8, 4), (8, 4)], 32),
    ("three factors", lambda a, b, c: (a * b * c).sum(-1), [(8, 4)] * 3, 32),
    ("a third that does not vary", lambda a, b, c: (a * b * c).sum(-1), [(8, 4), (8, 4), (8, 1)], 32),
    ("two of three that do not vary", lambda a, b, c: (a * b * c).sum(-1), [(8, 4), (8, 1), (8, 1)], 0),
    ("a square", lambda a: (a * a).sum(-1), [(8, 4)], 0),
    ("the other axis of a view", lambda a, b: (a * b).T.sum(0), [(8, 4), (1, 4)], 32),
    ("an axis along which one does not vary, in a view", lambda a, b: (a * b).T.sum(1), [(8, 4), (1, 4)], 0),
    ("an expanded gate", lambda a, b: (a * b.expand(8, 4)).sum(1), [(8, 4), (8, 1)], 0),
    ("outer, summed", lambda a, b: torch.outer(a, b).sum(), [(8,), (4,)], 0),
    ("a part of the product", lambda a, b: (a * b)[:, :2].sum(-1), [(8, 4), (8, 4)], 16),
    ("used twice", lambda a, b: (p := a * b) + p.sum(-1, keepdim=True), [(8, 4), (8, 4)], 0),
    ("changed in place before", lambda a, b: (a * b).exp_().sum(), [(8, 4), (8, 4)], 0),
    ("complex", lambda a, b: (torch.complex(a, b) * torch.complex(b, a)).sum().real, [(8, 4)] * 2, 4 * 32),
]


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize(("function", "shapes", "macs"), [case[1:] for case in TRACKED], ids=[c[0] for c in TRACKED])
def test_an_explicit_product_and_sum(function: Any, shapes: Any, macs: int, where: str) -> None:
    assert forward(function, *shapes, where=where).macs == macs


# --- work beside the contractions ---------------------------------------------------------------------------------


def test_elementwise_work_is_what_comes_out_and_a_reduction_what_goes_in() -> None:
    count = forward(lambda x: (x.exp() + 1).relu().softmax(-1).sum(0), (4, 5))
    assert (count.elementwise, count.reductions, count.macs) == (3 * 20, 2 * 20, 0)


def test_moves_are_no_work() -> None:
    count = forward(lambda x: torch.cat([x.T.contiguous().view(20), x.flatten()]).clone()[:3].unsqueeze(0), (4, 5))
    assert (count.elementwise, count.reductions, dict(count.uncounted)) == (0, 0, {})


@pytest.mark.parametrize("where", ["meta", "cpu"])
def test_the_softmax_of_an_attention_is_one_reduction_whatever_kernel_runs(where: str) -> None:
    count = forward(F.scaled_dot_product_attention, *QKV, where=where)
    assert (count.elementwise, count.reductions) == (0, PAIRS)


@pytest.mark.parametrize(
    ("function", "shape", "flops"),
    [
        (lambda x: torch.fft.fft(torch.complex(x, x)), (3, 64), 3 * 5 * 64 * 6),
        (torch.fft.fft2, (3, 64, 32), 3 * 5 * 2048 * 11),  # log2 (64 * 32) = 11; torch makes its input complex first
        (torch.fft.fft, (3, 64), 3 * 5 * 64 * 6 // 2),  # one side is real: half the work
        (torch.fft.rfft, (3, 64), 3 * 5 * 64 * 6 // 2),
        (lambda x: torch.fft.irfft(torch.fft.rfft(x)), (3, 64), 3 * 5 * 64 * 6),
        (lambda x: torch.fft.fft(torch.complex(x, x)), (3, 10), round(3 * 5 * 10 * math.log2(10))),
    ],
)
def test_ffts_are_counted_apart(function: Any, shape: Any, flops: int) -> None:
    count = forward(function, shape)
    assert (count.fft_flops, count.macs) == (flops, 0)


# --- what a causal mask makes useless -----------------------------------------------------------------------------


def causal_by_hand(length: int, keys: int) -> int:
    """Pairs in which the key does not come after the query."""
    return sum(1 for query in range(length) for key in range(keys) if key <= query)


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize(("length", "keys"), [(5, 5), (5, 9), (9, 5), (1, 4)])
def test_masked_macs_of_a_causal_attention(length: int, keys: int, where: str) -> None:
    shapes = [(B, H, length, D), (B, H, keys, D), (B, H, keys, D)]
    count = forward(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), *shapes, where=where)
    assert count.macs == B * H * length * keys * 2 * D
    assert count.macs - count.masked == B * H * causal_by_hand(length, keys) * 2 * D


def test_masked_macs_within_multihead_attention() -> None:
    mask = torch.ones(7, 7, dtype=torch.bool).triu(1)

    def causal(layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x, x, x, attn_mask=mask.to(x.device), is_causal=True, need_weights=False)[0]

    parts = [lambda: nn.MultiheadAttention(8, 2, batch_first=True)]
    count = forward(causal, (2, 7, 8), parts=parts)
    assert count.macs == 2 * (4 * 7 * 64 + 2 * 49 * 8)
    assert count.masked == 2 * (49 - 28) * 16  # of 49 pairs 28 are of use


# --- the backward -------------------------------------------------------------------------------------------------

BACKWARDS = [
    # y = xW: one product for the gradient of x, one for that of W
    ("linear", lambda layer, x: layer(x), [(6, 4)], [lambda: nn.Linear(4, 5)], 2 * 6 * 4 * 5),
    ("matmul", lambda a, b: a @ b, [(4, 5), (5, 6)], [], 240),
    ("convolution", lambda layer, x: layer(x), [(2, 4, 9, 9)], [lambda: nn.Conv2d(4, 6, 3)], 2 * 2 * 6 * 49 * 36),
    ("depth-wise convolution", lambda layer, x: layer(x), [(2, 4, 9, 9)], [lambda: nn.Conv2d(4, 4, 3, groups=4)],
     2 * 2 * 4 * 49 * 9),
    ("transposed convolution", lambda layer, x: layer(x), [(2, 4, 9, 9)], [lambda: nn.ConvTranspose2d(4, 6, 3)],
     2 * 2 * 4 * 81 * 6 * 9),
    ("attention by products", lambda q, k, v: (q @ k.mT).softmax(-1) @ v, QKV, [], 4 * PAIRS * D),
    ("attention by sums", lambda q, k, v: ((q[:, :, :, None] * k[:, :, None]).sum(-1).softmax(-1)[..., None]
                                           * v[:, :, None]).sum(-2), QKV, [], 4 * PAIRS * D),
    ("only the weight wants one", lambda layer, x: layer(x.detach()), [(6, 4)], [lambda: nn.Linear(4, 5)], 6 * 4 * 5),
]  # fmt: skip


@pytest.mark.parametrize("where", ["meta", "cpu"])
@pytest.mark.parametrize(
    ("function", "shapes", "parts", "macs"), [case[1:] for case in BACKWARDS], ids=[case[0] for case in BACKWARDS]
)
def test_the_mathematics_of_a_backward(function: Any, shapes: Any, parts: Any, macs: int, where: str) -> None:
    count = backward(function, *shapes, parts=parts, where=where)
    assert (count.backward, count.recomputed) == (macs, 0)


def test_a_fused_attention_computes_its_scores_again() -> None:
    """FlashAttention's backward: four products of the mathematics and the scores once more."""
    fused = backward(F.scaled_dot_product_attention, *QKV, where="cpu")
    assert (fused.macs, fused.backward, fused.recomputed) == (2 * PAIRS * D, 4 * PAIRS * D, PAIRS * D)
    with FakeTensorMode():
        faked = backward(F.scaled_dot_product_attention, *QKV, where="cpu")
    assert (faked.backward, faked.recomputed) == (fused.backward, fused.recomputed)
    by_parts = backward(F.scaled_dot_product_attention, *QKV, where="meta")  # where no kernel is chosen
    assert (by_parts.backward, by_parts.recomputed) == (4 * PAIRS * D, 0)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_computes_its_forward_again(reentrant: bool) -> None:
    def checkpointed(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(lambda x: second(first(x).relu()).relu(), x, use_reentrant=reentrant)

    parts = [lambda: nn.Linear(4, 4), lambda: nn.Linear(4, 4)]
    count = backward(checkpointed, (6, 4), parts=parts)
    assert (count.macs, count.backward, count.recomputed) == (2 * 96, 4 * 96, 2 * 96)
