"""The linear attentions written differently, for float64: N x N matrices, dense masks, one token after the other."""

import math
from collections.abc import Callable

import torch
from module_numerics import Weights
from torch import Tensor, nn

# (query, key, value) of (B, heads, N, .) -> the sums of (q_i . k_j) v_j, and of q_i . k_j
Sums = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def dense(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    scores = torch.einsum("bhid,bhjd->bhij", query, key)
    if mask is not None:
        scores = scores * mask
    return torch.einsum("bhij,bhje->bhie", scores, value), scores.sum(-1, keepdim=True)


def masked(query: Tensor, key: Tensor, value: Tensor, ahead: int = 0) -> tuple[Tensor, Tensor]:
    """j <= i by a dense mask; with `ahead` the mistake to see that many tokens more."""
    at = torch.arange(query.shape[2])
    return dense(query, key, value, (at[None, :] <= at[:, None] + ahead).double())


def recurrent(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Token after token, with a running state."""
    state, total = 0.0, 0.0
    sums, totals = [], []
    for i in range(query.shape[2]):
        state = state + key[:, :, i, :, None] * value[:, :, i, None, :]
        total = total + key[:, :, i]
        sums.append((query[:, :, i, :, None] * state).sum(2))
        totals.append((query[:, :, i] * total).sum(2, keepdim=True))
    return torch.stack(sums, 2), torch.stack(totals, 2)


def project(weights: Weights, name: str, rows: Tensor) -> Tensor:
    y = torch.einsum("oc,bnc->bno", weights[f"{name}.weight"].flatten(1), rows)
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def by_heads(x: Tensor, heads: int) -> Tensor:
    return torch.stack(x.chunk(heads, dim=-1), dim=1)  # (B, heads, N, d)


def together(x: Tensor) -> Tensor:
    return torch.cat(list(x.unbind(1)), dim=-1)  # (B, N, C)


def heads_of(weights: Weights, x: Tensor, heads: int) -> list[Tensor]:
    return [by_heads(project(weights, name, x), heads) for name in ("query", "key", "value")]


def rows_of(x: Tensor) -> Tensor:
    """The pixels of a map, row by row: (B, C, H, W) -> (B, N, C)."""
    return torch.stack([x[:, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])], dim=1)


def map_of(rows: Tensor, like: Tensor) -> Tensor:
    return rows.transpose(1, 2).reshape(like.shape)


def elu_plus_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, torch.exp(x))


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def over_the_queries(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """A mistake: the normaliser of the keys."""
    scores = torch.einsum("bhid,bhjd->bhij", query, key)
    return scores @ (value / scores.sum(-2).unsqueeze(-1)), torch.ones(())


def linear(weights: Weights, x: Tensor, heads: int, eps: float = 1e-6, sums: Sums = dense) -> Tensor:
    query, key, value = heads_of(weights, x, heads)
    attended, total = sums(elu_plus_one(query), elu_plus_one(key), value)
    return project(weights, "out", together(attended / (total + eps)))


def share(x: Tensor, dim: int) -> Tensor:
    return torch.exp(x) / torch.exp(x).sum(dim, keepdim=True)


def efficient(weights: Weights, x: Tensor, heads: int, over: tuple[int, int] = (2, 1)) -> Tensor:
    """rho_q(q) rho_k(k)^T as a matrix for each head, on rows of pixels; `over`: the axes of the two softmaxes."""
    rows = rows_of(x)
    parts = (project(weights, name, rows).chunk(heads, dim=-1) for name in ("query", "key", "value"))
    attended = [
        torch.einsum("bid,bjd->bij", share(query, over[0]), share(key, over[1])) @ value
        for query, key, value in zip(*parts, strict=True)
    ]
    return map_of(project(weights, "out", torch.cat(attended, dim=-1)), x) + x


def performer(
    weights: Weights, x: Tensor, projection: Tensor, heads: int, sums: Sums, eps: float = 1e-4, power: float = 0.25
) -> Tensor:
    """w x' - |x'|^2 / 2 = |w|^2 / 2 - |w - x'|^2 / 2: the features by the distances of x' from the rows w."""
    query, key, value = heads_of(weights, x, heads)
    w = projection.double()

    def features(x: Tensor, over: tuple[int, ...]) -> Tensor:
        x = x / x.shape[-1] ** power
        distances = (w - x.unsqueeze(-2)).square().sum(-1)  # (B, heads, N, m)
        largest = torch.einsum("bhnd,md->bhnm", x, w).detach().amax(over, keepdim=True)
        return torch.exp((w.square().sum(-1) - distances) / 2 - largest) + eps

    attended, total = sums(features(query, (-1,)), features(key, (-2, -1)), value)
    return project(weights, "out", together(attended / total))


def cosformer(
    weights: Weights, x: Tensor, heads: int, eps: float = 1e-6, causal: bool = False, cosine: bool = True
) -> Tensor:
    query, key, value = heads_of(weights, x, heads)
    at = torch.arange(x.shape[1]).double()
    distances = at[:, None] - at[None, :]
    weigh = torch.cos(math.pi / 2 * distances / x.shape[1]) if cosine else torch.ones_like(distances)
    if causal:
        weigh = weigh * (distances >= 0)
    attended, total = dense(relu(query), relu(key), value, weigh)
    return project(weights, "out", together(attended / torch.maximum(total, torch.tensor(eps).double())))


def recurrent_cosformer(weights: Weights, x: Tensor, heads: int, eps: float = 1e-6) -> Tensor:
    """The positions as complex numbers: relu(q_i) . relu(k_j) times the real part of a quotient of two of them."""
    query, key, value = heads_of(weights, x, heads)
    turns = torch.polar(torch.ones(x.shape[1]).double(), math.pi / 2 * torch.arange(x.shape[1]).double() / x.shape[1])
    attended, total = recurrent(relu(query) * turns[:, None], relu(key) / turns[:, None], value.to(turns.dtype))
    return project(weights, "out", together(attended.real / total.real.clamp_min(eps)))


def rectified(query: Tensor, key: Tensor, value: Tensor, eps: float) -> Tensor:
    attended, total = dense(relu(query), relu(key), value)
    return attended / (total + eps)


def sana(weights: Weights, x: Tensor, heads: int, eps: float = 1e-15) -> Tensor:
    return project(weights, "out", together(rectified(*heads_of(weights, x, heads), eps)))


def filtered(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """A depth-wise convolution tap by tap: (B, C, H, W) with (C, 1, k, k)."""
    side = kernel.shape[-1]
    padded = nn.functional.pad(x, [side // 2] * 4)
    height, width = x.shape[2:]
    taps = [
        padded[:, :, i : i + height, j : j + width] * kernel[:, :, i, j, None] for i in range(side) for j in range(side)
    ]
    y = sum(taps[1:], taps[0])
    return y if bias is None else y + bias[None, :, None, None]


def litemla(weights: Weights, x: Tensor, width: int = 8, eps: float = 1e-5, scales: int = 2) -> Tensor:
    """Head by head and scale by scale; the norm as it is before any training, in eval mode."""
    qkv = torch.einsum("oc,bchw->bohw", weights["qkv.weight"].flatten(1), x)
    wide = filtered(qkv, weights["depthwise.weight"])
    blocks = weights["pointwise.weight"].flatten(1).split(width)
    mixed = [torch.einsum("oc,bchw->bohw", w, part) for w, part in zip(blocks, wide.split(width, 1), strict=True)]
    attended = []
    for parts in (qkv.split(width, 1), mixed)[:scales]:
        rows = [rows_of(part).unsqueeze(1) for part in parts]
        attended += [rectified(*rows[at : at + 3], eps)[:, 0] for at in range(0, len(rows), 3)]
    while len(attended) * width < weights["out.weight"].shape[1]:
        attended.append(torch.zeros_like(attended[0]))
    y = map_of(project(weights, "out", torch.cat(attended, -1)), x) / (1 + 1e-5) ** 0.5
    return y * weights["norm.weight"][:, None, None] + weights["norm.bias"][:, None, None]


def local_term(weights: Weights, value: Tensor, like: Tensor) -> Tensor:
    """The shared depth-wise convolution of each head: (B, heads, N, d) -> (B, N, C)."""
    maps = [head.transpose(1, 2).reshape(*head.shape[::2], *like.shape[2:]) for head in value.unbind(1)]
    return torch.cat([rows_of(filtered(each, weights["local.weight"], weights["local.bias"])) for each in maps], -1)


def focused(
    weights: Weights, x: Tensor, heads: int, power: int = 3, eps: float = 1e-6, norm_by_head: bool = False
) -> Tensor:
    query, key, value = project(weights, "qkv", rows_of(x)).chunk(3, -1)
    softplus = torch.log(1 + torch.exp(weights["scale"]))

    def length(t: Tensor) -> Tensor:
        each = by_heads(t, heads).square().sum(-1)  # (B, heads, N)
        squares = each if norm_by_head else each.sum(1, keepdim=True).expand_as(each)
        return squares.sqrt().unsqueeze(-1)  # (B, heads, N, 1)

    def features(t: Tensor) -> Tensor:
        t = (relu(t) + 1e-6) / softplus
        return by_heads(t**power, heads) / length(t**power) * length(t)

    value = by_heads(value, heads)
    attended, total = dense(features(query), features(key + weights["position"]), value)
    local = local_term(weights, value, x)
    return map_of(project(weights, "out", together(attended / (total + eps)) + local), x)


def pola(
    weights: Weights, x: Tensor, heads: int, alpha: float = 4.0, eps: float = 1e-6, crossed: bool = False
) -> Tensor:
    """The scores of equal and of opposite signs as matrices; `crossed` is the mistake to exchange them."""
    rows = rows_of(x)
    query, gate = project(weights, "qg", rows).chunk(2, -1)
    key, value = project(weights, "kv", rows).chunk(2, -1)
    softplus = torch.log(1 + torch.exp(weights["scale"]))
    power = 1 + alpha / (1 + torch.exp(-weights["power"]))
    q, k, value = (by_heads(each, heads) for each in (query / softplus, (key + weights["position"]) / softplus, value))

    def scores(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("bhid,bhjd->bhij", relu(a) ** power, relu(b) ** power)

    equal, opposite = scores(q, k) + scores(-q, -k), scores(-q, k) + scores(q, -k)
    attended = []
    for each, half in zip((opposite, equal) if crossed else (equal, opposite), value.chunk(2, -1), strict=True):
        attended.append(each @ half / (each.sum(-1, keepdim=True) + eps))
    mixed = together(torch.cat(attended, -1)) + local_term(weights, value, x)
    return map_of(project(weights, "out", mixed * gate), x)


def hydra(weights: Weights, x: Tensor, sums: Sums = dense, heads: int | None = None) -> Tensor:
    """Every channel a head of its own; `heads`: the mistake to normalise within each of them."""
    query, key, value = (project(weights, name, x) for name in ("query", "key", "value"))
    query, key = (together(t / t.norm(dim=-1, keepdim=True)) for t in (by_heads(query, heads or 1),
                                                                       by_heads(key, heads or 1)))  # fmt: skip
    each = (by_heads(t, x.shape[-1]) for t in (query, key, value))
    return project(weights, "out", together(sums(*each)[0]))


def rfa(
    weights: Weights, x: Tensor, projection: Tensor, heads: int, eps: float = 1e-2, causal: bool = False,
    lengths: bool = True,
) -> Tensor:  # fmt: skip
    """sin a sin b + cos a cos b = cos(a - b): the scores by the differences of queries and keys."""
    query, key, value = heads_of(weights, x, heads)
    query, key = (t / t.shape[-1] ** 0.25 for t in (query, key))
    differences = query.unsqueeze(3) - key.unsqueeze(2)  # (B, heads, i, j, d)
    scores = torch.einsum("bhijd,hmd->bhijm", differences, projection.double()).cos().mean(-1)
    if lengths:
        squares = key.square().sum(-1) / 2
        scores = scores * torch.exp(squares - squares.detach().amax(-1, keepdim=True)).unsqueeze(2)
    if causal:
        scores = scores.tril()
    total = scores.sum(-1, keepdim=True).clamp_min(eps)
    return project(weights, "out", together(scores @ value / total))


def recurrent_rfa(weights: Weights, x: Tensor, projection: Tensor, heads: int, eps: float = 1e-2) -> Tensor:
    query, key, value = heads_of(weights, x, heads)
    query, key = (t / t.shape[-1] ** 0.25 for t in (query, key))

    def waves(t: Tensor) -> Tensor:
        angles = torch.einsum("bhnd,hmd->bhnm", t, projection.double())
        return torch.polar(torch.ones_like(angles), angles)

    squares = key.square().sum(-1, keepdim=True) / 2
    factor = torch.exp(squares - squares.detach().amax(-2, keepdim=True))
    attended, total = recurrent(waves(query), waves(key).conj() * factor, value + 0j)
    features = projection.shape[1]
    return project(weights, "out", together(attended.real / features / (total.real / features).clamp_min(eps)))


def mlla(weights: Weights, x: Tensor, heads: int, eps: float = 1e-6, mistake: str = "none") -> Tensor:
    """The rotations as complex numbers, one pixel and one pair of channels after the other."""
    rows = rows_of(x)
    query, key = (elu_plus_one(each) for each in project(weights, "qk", rows).chunk(2, -1))
    quarter, (height, width) = x.shape[1] // 4, x.shape[2:]
    angles = [
        [i / 10000 ** (t / quarter) for t in range(quarter)] + [j / 10000 ** (t / quarter) for t in range(quarter)]
        for i in range(height)
        for j in range(width)
    ]
    turns = torch.polar(torch.ones(len(angles), 2 * quarter).double(), torch.tensor(angles, dtype=torch.float64))

    def turned(t: Tensor) -> Tensor:
        points = torch.complex(t[..., ::2], t[..., 1::2]) * turns
        return torch.stack([points.real, points.imag], -1).reshape(t.shape)

    rotated = [by_heads(t if mistake == "not rotated" else turned(t), heads) for t in (query, key)]
    attended, of_rotated = dense(*rotated, by_heads(rows, heads))
    total = dense(by_heads(query, heads), by_heads(key, heads), by_heads(rows, heads))[1]
    if mistake == "a rotated denominator":
        total = of_rotated
    local = filtered(x, weights["lepe.weight"], weights["lepe.bias"])
    return map_of(together(attended / (total + eps)), x) + local


def swift(weights: Weights, x: Tensor, softmax: bool = False) -> Tensor:
    """Pixel by pixel; `softmax`: the mistake to weigh the queries by one."""
    rows = rows_of(x)
    query, key = (project(weights, name, rows) for name in ("query", "key"))
    query, key = (t / t.norm(dim=-1, keepdim=True) for t in (query, key))
    scores = torch.einsum("bnc,c->bn", query, weights["w_g"][:, 0]) / x.shape[1] ** 0.5
    scores = share(scores, 1) if softmax else scores / scores.norm(dim=1, keepdim=True)
    summed = sum(scores[:, n, None] * query[:, n] for n in range(rows.shape[1]))
    mixed = project(weights, "proj", summed[:, None] * key) + query
    return map_of(project(weights, "out", mixed), x)


def separable(weights: Weights, x: Tensor, rectified: bool = True) -> Tensor:
    """Pixel by pixel; without `rectified` the mistake to leave the rectifier out."""
    rows = project(weights, "qkv", rows_of(x))
    scores, keys, values = rows.split([1, x.shape[1], x.shape[1]], -1)
    shares = share(scores, 1)
    context = sum(shares[:, n] * keys[:, n] for n in range(rows.shape[1]))
    return map_of(project(weights, "out", (relu(values) if rectified else values) * context[:, None]), x)
