"""Products, sums of products, einsums and convolutions in every spelling, with MACs derived on paper."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from metrics_subjects import Make
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CONVOLUTIONS", "EINSUMS", "PRODUCTS", "RECURRENT", "SUMS", "TRANSPOSED"]

Form = tuple[str, Callable[..., Any], Sequence[Sequence[int]], int]


def gated_and_pooled(a: Tensor, b: Tensor) -> Tensor:
    """Channel attention before spatial attention, as in CBAM: the gated map goes on, and is pooled over channels."""
    gated = a * b
    return gated * gated.mean(-1, keepdim=True).sigmoid()


def pooled(a: Tensor, b: Tensor, to: Any) -> Tensor:
    return F.adaptive_avg_pool2d(a * b, to)


# (name, function, shapes of its inputs, MACs as they are derived on paper)
PRODUCTS: list[Form] = [
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
    ("softmax and norm", lambda a: F.layer_norm(a.softmax(-1), (5,)), [(4, 5)], 0),
    ("linalg.vecdot", torch.linalg.vecdot, [(3, 4, 5), (5,)], 3 * 4 * 5),
    ("cosine similarity", lambda a, b: F.cosine_similarity(a[:, None], b[None], -1), [(4, 5), (6, 5)], 4 * 6 * 5),
    ("chain_matmul", torch.chain_matmul, [(4, 5), (5, 6), (6, 7)], 4 * 5 * 6 + 4 * 6 * 7),
    ("multi_dot, from the right", lambda *m: torch.linalg.multi_dot(m), [(9, 5), (5, 6), (6, 1)], 5 * 6 + 9 * 5),
    ("multi_dot of four, the ends first", lambda *m: torch.linalg.multi_dot(m), [(2, 9), (9, 2), (2, 9), (9, 2)],
     2 * 9 * 2 + 2 * 9 * 2 + 2 * 2 * 2),
    ("multi_dot between vectors", lambda *m: torch.linalg.multi_dot(m), [(4,), (4, 5), (5,)], 4 * 5 + 4),
    ("bilinear", F.bilinear, [(4, 5), (4, 6), (7, 5, 6)], 4 * 7 * 5 * 6 + 4 * 7 * 6),
    ("addr", torch.addr, [(4, 5), (4,), (5,)], 0),
    ("kron", torch.kron, [(4, 5), (5, 6)], 0),
    ("mm of complex", lambda a, b: torch.mm(a.cfloat(), b.cfloat()).real, [(4, 5), (5, 6)], 4 * 120),
    ("mm into a given tensor", lambda a, b: torch.mm(a, b, out=a.new_empty(4, 6)), [(4, 5), (5, 6)], 120),
    ("addmv_", lambda a, b, c: a.clone().addmv_(b, c), [(4,), (4, 5), (5,)], 20),
    ("baddbmm_", lambda a, b, c: a.clone().baddbmm_(b, c), [(3, 4, 6), (3, 4, 5), (3, 5, 6)], 360),
    ("addbmm_", lambda a, b, c: a.clone().addbmm_(b, c), [(4, 6), (3, 4, 5), (3, 5, 6)], 360),
    ("vmap of matmul", lambda a, b: torch.vmap(torch.matmul)(a, b), [(3, 4, 5), (3, 5, 6)], 360),
    ("vmap of a sum", lambda a, b: torch.vmap(lambda x, y: (x * y).sum(-1))(a, b), [(3, 4, 5), (3, 4, 5)], 60),
    ("a product for nobody", lambda a, b: (a @ b, a)[1] + 1, [(4, 5), (5, 6)], 120),
    ("an operand made on the way", lambda a: a @ torch.ones(5, 6), [(4, 5)], 120),
    ("vmap of mv", lambda a, b: torch.vmap(torch.mv, (None, 1), 1)(a, b), [(4, 5), (5, 6)], 120),
]  # fmt: skip

# A sum over axes S of a product is a contraction when two different factors vary along one same axis in S, and neither
# the product nor what stands between it and the sum (views, casts, scaling by a number) is used elsewhere.
SUMS: list[Form] = [
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
    *(
        (f"a {what}, pooled to {to} by adaptive_avg_pool", partial(pooled, to=to), [(2, 3, 4, 5), gate], macs)
        for what, gate, to, macs in (
            ("map weighted by position", (2, 1, 4, 5), 1, 120),
            ("map weighted by position", (2, 1, 4, 5), (1, 1), 120),
            ("map weighted by position", (2, 1, 4, 5), (2, 1), 0),  # a kernel of its own, and no mean
            ("gated map", (2, 3, 1, 1), 1, 0),
        )
    ),
    ("cumsum of a product along a constant", lambda a, b: (a * b).cumsum(1), [(4, 5), (4, 1)], 0),
    ("mean", lambda a: a.mean(), [(4, 5)], 0),
    ("a gated map that goes on, and is pooled besides", gated_and_pooled, [(4, 5), (1, 5)], 0),
    ("a product alone", lambda a, b: a * b, [(4, 5), (4, 5)], 0),
    ("through a view", lambda a, b: (a * b).view(20).sum(), [(4, 5), (4, 5)], 20),
    ("through a split axis", lambda a, b: (a * b).view(4, 2, 3).sum(-1), [(4, 6), (4, 6)], 24),
    ("through unflatten", lambda a, b: (a * b).unflatten(1, (2, 3)).sum(1), [(4, 6), (4, 6)], 24),
    ("through flatten", lambda a, b: (a * b).flatten(1).sum(-1), [(4, 5, 6), (4, 1, 6)], 120),
    ("through permute", lambda a, b: (a * b).permute(2, 0, 1).sum(0), [(4, 5, 6), (1, 5, 6)], 120),
    ("through permute, along another axis", lambda a, b: (a * b).permute(2, 0, 1).sum(1), [(4, 5, 6), (1, 5, 6)], 0),
    ("through movedim", lambda a, b: (a * b).movedim(0, -1).sum(-1), [(4, 5, 6), (4, 1, 1)], 120),
    ("through movedim, along another axis", lambda a, b: (a * b).movedim(0, -1).sum(0), [(4, 5, 6), (4, 1, 1)], 0),
    ("through mT", lambda a, b: (a * b).mT.sum(-1), [(3, 4, 5), (3, 4, 1)], 60),
    ("through T", lambda a, b: (a * b).T.sum(-1), [(4, 5), (1, 5)], 0),
    ("through a copy", lambda a, b: (a * b).transpose(0, 1).contiguous().sum(0), [(4, 5), (4, 5)], 20),
    ("through a copying reshape", lambda a, b: (a * b).transpose(0, 1).reshape(-1).sum(), [(4, 5), (4, 5)], 20),
    ("through unsqueeze", lambda a, b: (a * b).unsqueeze(1).sum(-1), [(4, 5), (4, 5)], 20),
    ("through an index of None", lambda a, b: (a * b)[:, None].sum(-1), [(4, 5), (4, 5)], 20),
    ("through squeeze", lambda a, b: (a * b).squeeze(1).sum(-1), [(4, 1, 5), (4, 1, 5)], 20),
    ("through a cast", lambda a, b: (a * b).double().sum(), [(4, 5), (4, 5)], 20),
    ("through a scale", lambda a, b: (0.5 * (a * b)).sum(), [(4, 5), (4, 5)], 20),
    ("through a division", lambda a, b: (a * b / 2).sum(), [(4, 5), (4, 5)], 20),
    ("through a scale that is learnt", lambda a, b, c: (a * b * c[0]).sum(), [(4, 5), (4, 5), (1,)], 20),
    ("its size is asked", lambda a, b: (lambda p: p.view(p.shape[0], -1).sum(1))(a * b), [(4, 5), (4, 5)], 20),
    ("of three", lambda a, b, c: (a * b * c).sum(-1), [(4, 5), (4, 5), (4, 5)], 20),
    ("of three, two of them gates", lambda a, b, c: (a * b * c).sum(-1), [(4, 5), (4, 1), (4, 1)], 0),
    ("of three, two of them beneath", lambda a, b, c: (a * (b * c)).sum(-1), [(4, 5), (4, 5), (4, 1)], 20),
    ("of three, viewed between", lambda a, b, c: ((a * b)[..., None] * c).sum(1), [(4, 5), (4, 1), (4, 5, 6)], 120),
    ("of three, one spread", lambda a, b: (a * b.expand(4, 5)).sum(-1), [(4, 5), (4, 1)], 0),
    ("of an outer product", lambda a, b: torch.outer(a, b).sum(), [(4,), (5,)], 0),
    ("of an outer product by hand", lambda a, b: (a[:, None] * b).sum(), [(4,), (5,)], 0),
    ("of squares", lambda a: (a * a).mean(-1), [(4, 5)], 0),
    ("of scaled squares", lambda a: (a * a * 0.5).sum(), [(4, 5)], 0),
    ("of weighted squares", lambda a, b: (a * a * b).sum(), [(4, 5), (4, 5)], 20),
    ("of a square by a gate", lambda a, b: (a * a * b).sum(-1), [(4, 5), (4, 1)], 0),
    ("of what is no product any more", lambda a, b: (a * b).exp().sum(), [(4, 5), (4, 5)], 0),
    ("of a product that is used twice", lambda a, b: (lambda p: p.sum(0) + p.mean(0))(a * b), [(4, 5), (4, 5)], 0),
    ("of a view, the product used besides", lambda a, b: (lambda p: p.view(20).sum() + p.sin().sum())(a * b),
     [(4, 5), (4, 5)], 0),
    ("of a factor that is a product, used besides", lambda a, b, c: (lambda p: (p * c).sum() + p.sin().sum())(a * b),
     [(4, 5), (4, 5), (4, 5)], 20),
    ("of a sum", lambda a, b: (a * b).sum(-1).sum(), [(4, 5), (4, 5)], 20),
    ("of complex numbers", lambda a, b: (a.cfloat() * b.cfloat()).sum().real, [(4, 5), (4, 5)], 4 * 20),
    ("of complex by real ones", lambda a, b: (a.cfloat() * b).sum().real, [(4, 5), (4, 5)], 2 * 20),
    ("along an axis of one", lambda a, b: (a * b).sum(-1), [(4, 1), (4, 1)], 0),
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
    ("ij,jk,kl,lm->im", [(2, 3), (3, 5), (5, 7), (7, 11)], 2 * 3 * 5 + 2 * 5 * 7 + 2 * 7 * 11),
    ("bnd,bmd->bnm", [(2, 4, 1), (2, 5, 1)], 0),  # nothing is summed along one channel
    ("ij,jk->ik", [(4, 1), (5, 6)], 0),  # j is summed within the second operand
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
    (
        "2d, all",
        lambda: nn.ConvTranspose2d(4, 6, (3, 5), (2, 3), (1, 2), (1, 0), dilation=(1, 2)),
        (2, 4, 9, 7),
        2 * 4 * 63 * 6 * 15,
    ),
    ("3d", lambda: nn.ConvTranspose3d(2, 3, 2, 2, bias=False), (1, 2, 4, 5, 6), 2 * 120 * 3 * 8),
]

# Every step of each of the T * B tokens meets the matrices of all gates: of the input, and of the state.
RECURRENT: list[tuple[str, Make, Sequence[int], int]] = [
    ("lstm", lambda: nn.LSTM(5, 6), (3, 4, 5), 12 * 4 * 6 * (5 + 6)),
    ("lstm, batch first", lambda: nn.LSTM(5, 6, batch_first=True), (3, 4, 5), 12 * 4 * 6 * (5 + 6)),
    ("lstm, one sequence alone", lambda: nn.LSTM(5, 6), (3, 5), 3 * 4 * 6 * (5 + 6)),
    ("lstm, no bias", lambda: nn.LSTM(5, 6, bias=False), (3, 4, 5), 12 * 4 * 6 * (5 + 6)),
    ("lstm, both directions", lambda: nn.LSTM(5, 6, bidirectional=True), (3, 4, 5), 2 * 12 * 4 * 6 * (5 + 6)),
    ("lstm, two layers", lambda: nn.LSTM(5, 6, 2), (3, 4, 5), 12 * 4 * 6 * ((5 + 6) + (6 + 6))),
    ("lstm, projected", lambda: nn.LSTM(5, 6, proj_size=2), (3, 4, 5), 12 * (4 * 6 * (5 + 2) + 2 * 6)),
    ("lstm, all of it", lambda: nn.LSTM(5, 6, 2, bidirectional=True, proj_size=2), (3, 4, 5),
     2 * 12 * (4 * 6 * (5 + 2) + 2 * 6 + 4 * 6 * (4 + 2) + 2 * 6)),
    ("gru", lambda: nn.GRU(5, 6), (3, 4, 5), 12 * 3 * 6 * (5 + 6)),
    ("gru, two layers, both directions", lambda: nn.GRU(5, 6, 2, bidirectional=True), (3, 4, 5),
     2 * 12 * 3 * 6 * ((5 + 6) + (12 + 6))),
    ("rnn", lambda: nn.RNN(5, 6), (3, 4, 5), 12 * 6 * (5 + 6)),
    ("rnn, relu", lambda: nn.RNN(5, 6, nonlinearity="relu"), (3, 4, 5), 12 * 6 * (5 + 6)),
    ("lstm cell", lambda: nn.LSTMCell(5, 6), (4, 5), 4 * 4 * 6 * (5 + 6)),
    ("gru cell", lambda: nn.GRUCell(5, 6), (4, 5), 4 * 3 * 6 * (5 + 6)),
    ("rnn cell", lambda: nn.RNNCell(5, 6), (4, 5), 4 * 6 * (5 + 6)),
]  # fmt: skip
