"""Softmax attention with projections over all positions: SAGAN, multi-head, grouped, cross, additive, non-local."""

import torch
from hand_case import MAP, TOKENS, Sizes, attend, case, merge, split
from torch import Tensor, nn
from torch.nn import functional as F

SAGAN = "B * (N*C*(2*(C//8) + C) + N**2*(C//8 + C))"
SAGAN_PARAMS = "2*(C*(C//8) + C//8) + C*C + C + 1"


class Sagan(nn.Module):
    """The parameters that both writings share."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(s.C, s.C // 8, 1), nn.Conv2d(s.C, s.C // 8, 1)
        self.value = nn.Conv2d(s.C, s.C, 1)
        self.gamma = nn.Parameter(torch.zeros(1))


@case("SAGAN self-attention", "1x1 convolutions, bmm", MAP, macs=SAGAN, params=SAGAN_PARAMS, quadratic=True)
class SaganByConvolutions(Sagan):
    """Two 1x1 convolutions C -> C/8 and one C -> C at N positions: N C (2 C/8 + C); scores over C/8 numbers: N² C/8;
    every position mixes N values of C numbers: N² C. gamma is elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weights = torch.bmm(q.transpose(1, 2), k).softmax(-1)
        return self.gamma * torch.bmm(v, weights.transpose(1, 2)).view_as(x) + x


@case("SAGAN self-attention", "einsum", MAP, macs=SAGAN, params=SAGAN_PARAMS, quadratic=True)
class SaganByEinsum(Sagan):
    """b c x y . b c u v summed over the C/8 channels: N² C/8; then summed over the N positions u v: N² C."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        scores = torch.einsum("bcxy,bcuv->bxyuv", q, k)
        weights = scores.flatten(3).softmax(-1).view_as(scores)
        return self.gamma * torch.einsum("bxyuv,bcuv->bcxy", weights, v) + x


MHA = "B * (4*N*C**2 + 2*N**2*C)"
MHA_PARAMS = "4*(C**2 + C)"


@case("multi-head attention", "own, four Linear", TOKENS, macs=MHA, params=MHA_PARAMS, backward="2 * macs",
      quadratic=True)  # fmt: skip
class OwnHeads(nn.Module):
    """q, k, v, output: four Linear(C, C) at N tokens, 4 N C²; scores and mixing: 2 N² C.

    Backward: of y = x W both x and W have a gradient of N C² each; of each attention product too: twice the forward.
    """

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.q, self.k, self.v, self.out = (nn.Linear(s.C, s.C) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(merge(attend(*(split(layer(x), self.h) for layer in (self.q, self.k, self.v)))))


@case("multi-head attention", "fused qkv, scaled_dot_product_attention", TOKENS, macs=MHA, params=MHA_PARAMS,
      backward="2 * macs", recomputed="B * N**2 * C", quadratic=True)  # fmt: skip
class FusedHeads(nn.Module):
    """One Linear(C, 3C): 3 N C²; the two products: 2 N² C; the output: N C².

    Backward: two gradients for each; the scores, which were not kept, once more.
    """

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.qkv, self.out = nn.Linear(s.C, 3 * s.C), nn.Linear(s.C, s.C)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(each, self.h) for each in self.qkv(x).chunk(3, -1))
        return self.out(merge(F.scaled_dot_product_attention(q, k, v)))


@case("multi-head attention", "plain parameters, functional", TOKENS, macs=MHA, params=MHA_PARAMS,
      backward="2 * macs", quadratic=True)  # fmt: skip
class FunctionalHeads(nn.Module):
    """No submodule to hook: F.linear with (3C, C), addmm with (C, C): 4 N C²; and 2 N² C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.w_in, self.b_in = nn.Parameter(torch.randn(3 * s.C, s.C)), nn.Parameter(torch.zeros(3 * s.C))
        self.w_out, self.b_out = nn.Parameter(torch.randn(s.C, s.C)), nn.Parameter(torch.zeros(s.C))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(each, self.h) for each in F.linear(x, self.w_in, self.b_in).chunk(3, -1))
        return torch.addmm(self.b_out, merge(attend(q, k, v)).flatten(0, 1), self.w_out).view_as(x)


class TorchHeads(nn.Module):
    """torch's own module as self-attention."""

    def __init__(self, s: Sizes, need_weights: bool = True) -> None:
        super().__init__()
        self.core, self.need_weights = nn.MultiheadAttention(s.C, s.h, batch_first=True), need_weights

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x, x, x, need_weights=self.need_weights)[0]


@case("multi-head attention", "nn.MultiheadAttention, eval", TOKENS, macs=MHA, params=MHA_PARAMS, quadratic=True)
def torch_heads(s: Sizes) -> nn.Module:
    """in_proj (3C, C): 3 N C²; out_proj: N C²; the two products: 2 N² C. In eval torch takes one fused operator."""
    return TorchHeads(s)


@case("multi-head attention", "nn.MultiheadAttention, no weights, eval", TOKENS, macs=MHA, params=MHA_PARAMS,
      quadratic=True)  # fmt: skip
def torch_heads_without_weights(s: Sizes) -> nn.Module:
    """As before; without the averaged weights to return, the products are scaled_dot_product_attention's."""
    return TorchHeads(s, need_weights=False)


@case("multi-head attention", "nn.MultiheadAttention, train", TOKENS, macs=MHA, params=MHA_PARAMS, train=True,
      backward="2 * macs", quadratic=True)  # fmt: skip
def torch_heads_in_training(s: Sizes) -> nn.Module:
    """The same mathematics in train mode, operator by operator; backward: two gradients for each product."""
    return TorchHeads(s)


class Grouped(nn.Module):
    """h heads of queries share g heads of keys and values."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h, self.g = s.h, s.g
        self.q, self.out = nn.Linear(s.C, s.C, bias=False), nn.Linear(s.C, s.C, bias=False)
        self.k, self.v = (nn.Linear(s.C, s.g * s.d, bias=False) for _ in range(2))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return split(self.q(x), self.h), split(self.k(x), self.g), split(self.v(x), self.g)


GQA = "B * (2*N*C**2 + 2*N*C*g*d + 2*N**2*C)"
GQA_PARAMS = "2*C**2 + 2*C*g*d"


@case("grouped-query attention", "repeat_interleave", TOKENS, macs=GQA, params=GQA_PARAMS, backward="2 * macs",
      quadratic=True)  # fmt: skip
class GroupedByRepeat(Grouped):
    """q and output: 2 N C²; k and v to g heads of d: 2 N C g d; repeated, they meet all h heads: 2 N² C.

    Backward: two gradients for each product; the gradients of the copies are added, not multiplied.
    """

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        k, v = (each.repeat_interleave(self.h // self.g, dim=1) for each in (k, v))
        return self.out(merge(attend(q, k, v)))


@case("grouped-query attention", "enable_gqa", TOKENS, macs=GQA, params=GQA_PARAMS, quadratic=True)
class GroupedByFlag(Grouped):
    """The same products; the operator repeats keys and values itself."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(merge(F.scaled_dot_product_attention(*self.heads(x), enable_gqa=True)))


@case("grouped-query attention", "einsum over groups", TOKENS, macs=GQA, params=GQA_PARAMS, quadratic=True)
class GroupedByEinsum(Grouped):
    """g groups of h/g heads: labels b g r i j d give B g (h/g) N² d = B N² C, twice."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        q = q.unflatten(1, (self.g, -1))
        weights = torch.einsum("bgrid,bgjd->bgrij", q, k).softmax(-1)
        return self.out(merge(torch.einsum("bgrij,bgjd->bgrid", weights, v).flatten(1, 2)))


CROSS = "B * (2*N*C**2 + 2*L*C**2 + 2*N*L*C)"
OTHER = ("B", "L", "C")


@case("cross-attention", "matmul", TOKENS, OTHER, macs=CROSS, params="4*C**2", backward="2 * macs")
class Cross(nn.Module):
    """q and output at N tokens: 2 N C²; k and v at the other L tokens: 2 L C²; N queries meet L keys: 2 N L C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.q, self.k, self.v, self.out = (nn.Linear(s.C, s.C, bias=False) for _ in range(4))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        return self.out(merge(attend(*(split(each, self.h) for each in (self.q(x), self.k(text), self.v(text))))))


@case("cross-attention", "nn.MultiheadAttention", TOKENS, OTHER, macs=CROSS, params=MHA_PARAMS)
class TorchCross(nn.Module):
    """in_proj is cut in two: C -> C at N tokens, C -> 2C at L tokens; N L C twice; the output at N tokens."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.core = nn.MultiheadAttention(s.C, s.h, batch_first=True)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        return self.core(x, text, text)[0]


ADDITIVE = "B * (2*N*C*a + N**2*(a + C))"


class Additive(nn.Module):
    """Scores by a small network: w . tanh(W_q q_i + W_k k_j)."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(s.C, s.a, bias=False), nn.Linear(s.C, s.a)
        self.w = nn.Linear(s.a, 1, bias=False)

    def hidden(self, x: Tensor) -> Tensor:
        """(B, N, N, a)"""
        return torch.tanh(self.q(x)[:, :, None] + self.k(x)[:, None])


@case("additive attention", "Linear to one score", TOKENS, macs=ADDITIVE, params="2*C*a + a + a", quadratic=True)
class AdditiveByLinear(Additive):
    """Two projections to a hidden units: 2 N C a; w over the a units of all N² pairs: N² a; mixing: N² C."""

    def forward(self, x: Tensor) -> Tensor:
        return self.w(self.hidden(x)).squeeze(-1).softmax(-1) @ x


@case("additive attention", "mul, sum", TOKENS, macs=ADDITIVE, params="2*C*a + a + a", quadratic=True)
class AdditiveBySum(Additive):
    """The same score as an explicit product with w that is summed over the a units: N² a."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.hidden(x) * self.w.weight[0]).sum(-1).softmax(-1) @ x


NON_LOCAL = "B * (2*N*C**2 + N**2*C)"
NON_LOCAL_PARAMS = "3*(C*(C//2) + C//2) + (C//2)*C + C"


class NonLocal(nn.Module):
    """theta, phi and g to half the channels, and back."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(s.C, s.C // 2, 1) for _ in range(3))
        self.w = nn.Conv2d(s.C // 2, s.C, 1)

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        return self.w(y.transpose(1, 2).unflatten(2, x.shape[2:])) + x


@case("non-local block", "embedded Gaussian", MAP, macs=NON_LOCAL, params=NON_LOCAL_PARAMS, backward="2 * macs",
      quadratic=True)  # fmt: skip
class NonLocalGaussian(NonLocal):
    """Three convolutions C -> C/2 and one back: 4 N C C/2 = 2 N C²; two products over C/2: 2 N² C/2 = N² C."""

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        return self.back((theta.transpose(1, 2) @ phi).softmax(-1) @ g.transpose(1, 2), x)


@case("non-local block", "dot product", MAP, macs=NON_LOCAL, params=NON_LOCAL_PARAMS, quadratic=True)
class NonLocalDot(NonLocal):
    """The same products; scores are divided by N instead of the softmax."""

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        scores = torch.matmul(theta.transpose(1, 2), phi) / phi.shape[-1]
        return self.back(torch.matmul(scores, g.transpose(1, 2)), x)


@case("talking heads", "einsum", TOKENS, macs="B * (4*N*C**2 + 2*N**2*C + 2*N**2*h**2)", params="4*C**2 + 2*h**2",
      quadratic=True)  # fmt: skip
class TalkingHeads(nn.Module):
    """Multi-head attention, 4 N C² + 2 N² C, whose heads are mixed by h x h before and after softmax: 2 N² h²."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.qkv, self.out = nn.Linear(s.C, 3 * s.C, bias=False), nn.Linear(s.C, s.C, bias=False)
        self.before, self.after = (nn.Parameter(torch.randn(s.h, s.h)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(each, self.h) for each in self.qkv(x).chunk(3, -1))
        scores = torch.einsum("bhij,hg->bgij", q @ k.mT, self.before)
        return self.out(merge(torch.einsum("bhij,hg->bgij", scores.softmax(-1), self.after) @ v))
