"""Scaled dot-product attention without projections, in every way that people write it."""

import math
from typing import Any

import torch
from hand_case import HEADS, Sizes, case
from torch import Tensor, nn
from torch.nn import functional as F

# Each of N queries meets each of N keys over d numbers in h heads, N² h d = N² C; mixing the values costs the same.
TWO_PRODUCTS = "2 * B * N**2 * C"
# d(scores) gives dq and dk, d(output) gives dA and dv: each of the two products has two gradients of its own size.
FOUR_PRODUCTS = "2 * macs"
KIND = "dot-product attention"
INPUTS = (HEADS, HEADS, HEADS)


class Plain(nn.Module):
    """No parameters, nothing but a forward; the constructor takes the sizes and needs none of them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()


@case(KIND, "matmul", *INPUTS, macs=TWO_PRODUCTS, backward=FOUR_PRODUCTS, quadratic=True)
class ByMatmul(Plain):
    """q k^T: (N, d) x (d, N) in each head, N² d; A v: (N, N) x (N, d), N² d; h heads, B samples: 2 B N² C."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v


@case(KIND, "einsum", *INPUTS, macs=TWO_PRODUCTS, backward=FOUR_PRODUCTS, quadratic=True)
class ByEinsum(Plain):
    """Labels b h i j d of the first, of which d is summed: B h N N d; of the second j is summed: the same again."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("bhid,bhjd->bhij", q, k) * q.shape[-1] ** -0.5
        return torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), v)


@case(KIND, "baddbmm, bmm", *INPUTS, macs=TWO_PRODUCTS, backward=FOUR_PRODUCTS, quadratic=True)
class ByBmm(Plain):
    """As BLOOM does: baddbmm scales and multiplies B h matrices (N, d) x (d, N); bmm mixes; B h N² d each."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads = q.shape[:2]
        q, k, v = (each.flatten(0, 1) for each in (q, k, v))
        bias = q.new_zeros(q.shape[0], q.shape[1], k.shape[1])
        scores = torch.baddbmm(bias, q, k.transpose(1, 2), beta=1.0, alpha=q.shape[-1] ** -0.5)
        return torch.bmm(scores.softmax(-1), v).unflatten(0, (batch, heads))


@case(KIND, "scaled_dot_product_attention", *INPUTS, macs=TWO_PRODUCTS, backward=FOUR_PRODUCTS,
      recomputed="B * N**2 * C", quadratic=True)  # fmt: skip
class Fused(Plain):
    """The same two products in one operator: 2 B N² C. Its backward has lost the scores and computes q k^T anew."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


@case(KIND, "scaled_dot_product_attention, causal", *INPUTS, macs=TWO_PRODUCTS, backward=FOUR_PRODUCTS,
      recomputed="B * N**2 * C", useful="2 * B * C * N*(N + 1)//2", quadratic=True)  # fmt: skip
class FusedCausal(Plain):
    """A mask counts dense: 2 B N² C. Row i needs i + 1 keys: 1 + 2 + ... + N = N (N + 1) / 2 pairs are useful."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@case(KIND, "mul, sum", *INPUTS, macs=TWO_PRODUCTS, quadratic=True)
class ByMulAndSum(Plain):
    """(B, h, N, N, d) products are summed over d: B h N² d; weights times values are summed over j: B h N² d."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q[:, :, :, None] * k[:, :, None]).sum(-1).softmax(-1)
        return (weights[..., None] * v[:, :, None]).sum(-2)


@case(KIND, "in place and out=", *INPUTS, macs=TWO_PRODUCTS, quadratic=True)
class InPlace(Plain):
    """bmm into a given tensor: B h N² d; baddbmm_ onto the output: B h N² d."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (each.flatten(0, 1) for each in (q, k, v))
        scores = q.new_empty(q.shape[0], q.shape[1], k.shape[1])
        torch.bmm(q, k.transpose(1, 2), out=scores)
        scores.mul_(q.shape[-1] ** -0.5).sub_(scores.amax(-1, keepdim=True)).exp_()
        return torch.zeros_like(q).baddbmm_(scores.div_(scores.sum(-1, keepdim=True)), v)


@case(KIND, "a loop over blocks of queries", *INPUTS, macs=TWO_PRODUCTS, backward=FOUR_PRODUCTS, quadratic=True)
class InBlocks(Plain):
    """Every block of N/8 queries meets all N keys: 8 x 2 (N/8) N d a head, which is 2 N² d."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        blocks = [(block @ k.mT).softmax(-1) @ v for block in q.chunk(8, dim=2)]
        return torch.cat(blocks, dim=2)


@case(KIND, "vmap over samples and heads", *INPUTS, macs=TWO_PRODUCTS, quadratic=True)
class Vmapped(Plain):
    """One head of one sample is 2 N² d; vmap does it B h times."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        def one_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return torch.softmax(q @ k.T, -1) @ v

        return torch.vmap(torch.vmap(one_head))(q, k, v)


class AttentionFunction(torch.autograd.Function):
    """Softmax attention with a backward of its own, which keeps the weights."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.mT).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, weights = ctx.saved_tensors
        dweights = gradients[0] @ v.mT
        dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype)
        return dscores @ k, dscores.mT @ q, weights.mT @ gradients[0]


@case(KIND, "torch.autograd.Function", *INPUTS, macs=TWO_PRODUCTS, backward=FOUR_PRODUCTS, quadratic=True)
class ByFunction(Plain):
    """The same two products inside a Function: 2 B N² C. Its backward writes out four: dA, dq, dk, dv."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        return AttentionFunction.apply(q, k, v)


@case(KIND, "complex numbers", *INPUTS, macs="4 * 2 * B * N**2 * C", quadratic=True)
class Complex(Plain):
    """Complex times complex is four real products, so 4 x 2 B N² C; the weights are made complex for the second."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (torch.complex(each, -each) for each in (q, k, v))
        weights = (q @ k.mH).abs().softmax(-1)
        return torch.view_as_real(torch.complex(weights, torch.zeros_like(weights)) @ v)


@case(KIND, "complex numbers as pairs", *INPUTS, macs="(4 + 2) * B * N**2 * C", quadratic=True)
class ComplexAsPairs(Plain):
    """Re and Im of q k^H are two real products each: 4 B N² C; real weights mix Re and Im of v: 2 B N² C."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        (qr, qi), (kr, ki), (vr, vi) = ((each, -each) for each in (q, k, v))
        real = qr @ kr.mT + qi @ ki.mT
        imaginary = qi @ kr.mT - qr @ ki.mT
        weights = torch.hypot(real, imaginary).softmax(-1)
        return torch.stack([weights @ vr, weights @ vi], -1)


@case(KIND, "flex_attention", *INPUTS, macs=TWO_PRODUCTS, quadratic=True,
      flagged="a higher-order operator, which no tracer sees into")  # fmt: skip
class Flex(Plain):
    """Dense, as no block mask is given: 2 B N² C."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        from torch.nn.attention.flex_attention import flex_attention

        return flex_attention(q, k, v)


@torch.library.custom_op("attnbench_counting::attention", mutates_args=())
def opaque_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


@opaque_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.empty_like(q)


@case(KIND, "an operator of torch.library", *INPUTS, macs=TWO_PRODUCTS, quadratic=True,
      flagged="what an opaque operator does is its own secret")  # fmt: skip
class Opaque(Plain):
    """The two products once more, 2 B N² C, behind an operator that only gives its output's shape."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        return opaque_attention(q, k, v)
