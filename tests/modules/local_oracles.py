"""Local and sparse attention written differently, for float64: as full attention under a mask built pair by pair."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from comparisons import weighted
from module_numerics import Weights
from torch import Tensor, nn

# Whether the query at the first position sees the key at the second.
Sees = Callable[[int, int], bool]


def mask_of(size: int, sees: Sees) -> Tensor:
    return torch.tensor([[bool(sees(i, j)) for j in range(size)] for i in range(size)])


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """(B, h, N, d), `seen` and `bias` (..., N, N): exp(s) / sum exp(s), with zeros where a key is not seen."""
    scores = torch.einsum("bhid,bhjd->bhij", query, key) + bias
    shares = torch.where(seen, (scores - scores.amax(-1, keepdim=True)).exp(), 0.0)
    return torch.einsum("bhij,bhjd->bhid", shares / shares.sum(-1, keepdim=True), value)


def project(weights: Weights, name: str, x: Tensor) -> Tensor:
    """x W^T + b; 1x1 convolutions are the same."""
    bias = weights.get(f"{name}.bias", torch.zeros((), dtype=x.dtype))
    return torch.einsum("oc,bnc->bno", weights[f"{name}.weight"].flatten(1), x) + bias


def cut(x: Tensor, heads: int) -> Tensor:
    return torch.stack(x.chunk(heads, dim=-1), dim=1)  # (B, N, C) -> (B, h, N, d)


def joined(x: Tensor) -> Tensor:
    return torch.cat(x.unbind(1), dim=-1)  # (B, h, N, d) -> (B, N, C)


def tokens_of(x: Tensor) -> Tensor:
    return torch.stack([x[:, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])], dim=1)


def map_of(tokens: Tensor, x: Tensor) -> Tensor:
    return tokens.transpose(1, 2).reshape(x.shape)


def masked(
    weights: Weights, x: Tensor, heads: int, seen: Tensor, bias: Tensor | float = 0.0, scale: float | None = None
) -> Tensor:
    """Full attention over tokens (B, N, C) with layers `qkv` and `out`, under a mask."""
    query, key, value = (cut(each, heads) for each in project(weights, "qkv", x).chunk(3, -1))
    scale = (x.shape[-1] // heads) ** -0.5 if scale is None else scale
    return project(weights, "out", joined(attend(query * scale, key, value, seen, bias)))


# --- windows of a map


def swin(weights: Weights, x: Tensor, heads: int, window: int, shift: int) -> Tensor:
    """Without rolling: two positions meet in a window of the moved grid, cut at the border. Needs H, W % window."""
    height, width = x.shape[2:]
    grid = [((p // width + window - shift) // window, (p % width + window - shift) // window)
            for p in range(height * width)]  # fmt: skip
    seen = mask_of(height * width, lambda i, j: grid[i] == grid[j])
    bias = torch.zeros(heads, height * width, height * width, dtype=x.dtype)
    for i, j in seen.nonzero().tolist():
        row, column = i // width - j // width + window - 1, i % width - j % width + window - 1
        bias[:, i, j] = weights["table"][row * (2 * window - 1) + column]
    return map_of(masked(weights, tokens_of(x), heads, seen, bias), x)


def swin_round_the_border(weights: Weights, x: Tensor, heads: int, window: int) -> Tensor:
    """The mistake that the map is rolled and cut into windows, and nothing is masked."""
    shift = window // 2
    rolled = swin(weights, x.roll((-shift, -shift), (2, 3)), heads, window, shift=0)
    return rolled.roll((shift, shift), (2, 3))


class TimmSwin(nn.Module):
    """The windows of a block of timm without what stands around them."""

    def __init__(self, dim: int, heads: int, size: tuple[int, int], window: int, shift: bool) -> None:
        super().__init__()
        module = importlib.import_module("timm.models.swin_transformer")
        block = module.SwinTransformerBlock(dim, size, heads, window_size=window, shift_size=window // 2 * shift)
        block.norm1, block.norm2, block.mlp = nn.Identity(), nn.Identity(), nn.Identity()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block._attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y


def timm_swin(weights: Weights, x: Tensor, heads: int, window: int, shift: bool) -> Tensor:
    size = (x.shape[2], x.shape[3])
    high, wide = (min(window, side) for side in size)
    # timm's table is as small as the window that fits: the middle of ours.
    table = weights["table"].unflatten(0, (2 * window - 1, 2 * window - 1))
    table = table[window - high : window + high - 1, window - wide : window + wide - 1].flatten(0, 1)
    named = {f"block.attn.{theirs}.{kind}": weights[f"{ours}.{kind}"]
             for theirs, ours in (("qkv", "qkv"), ("proj", "out")) for kind in ("weight", "bias")}  # fmt: skip
    named["block.attn.relative_position_bias_table"] = table
    return weighted(TimmSwin(x.shape[1], heads, size, window, shift), named, x)


def twins(weights: Weights, x: Tensor, heads: int, window: int) -> Tensor:
    """Needs H, W % window."""
    width = x.shape[3]
    grid = [(p // width // window, p % width // window) for p in range(x.shape[2] * width)]
    return map_of(masked(weights, tokens_of(x), heads, mask_of(len(grid), lambda i, j: grid[i] == grid[j])), x)


def timm_twins(weights: Weights, x: Tensor, heads: int, window: int) -> Tensor:
    published = importlib.import_module("timm.models.twins").LocallyGroupedAttn(x.shape[1], heads, ws=window)
    named = {f"{theirs}.{kind}": weights[f"{ours}.{kind}"]
             for theirs, ours in (("qkv", "qkv"), ("proj", "out")) for kind in ("weight", "bias")}  # fmt: skip
    return map_of(weighted(published, named, tokens_of(x), (x.shape[2], x.shape[3])), x)


# --- neighbourhoods


def neighbourhood(i: int, size: int, kernel: int, dilation: int, causal: bool, truncated: bool = False) -> list[int]:
    """Among all runs of `kernel` positions a dilation apart, the one whose middle is nearest to i."""
    line = list(range(i % dilation, size, dilation))
    if causal:
        return [j for j in line if i - (kernel - 1) * dilation <= j <= i]
    if truncated:
        return [j for j in line if abs(j - i) <= kernel // 2 * dilation]
    runs = [line[first : first + kernel] for first in range(max(1, len(line) - kernel + 1))]
    return min(runs, key=lambda run: abs(run[min(kernel // 2, len(run) - 1)] - i))


def natten(
    weights: Weights, x: Tensor, heads: int, kernel: int, dilation: int = 1, causal: bool = False, **mistake: bool
) -> Tensor:
    height, width = x.shape[2:]
    rows, columns = (
        [neighbourhood(i, size, kernel, dilation, causal, **mistake) for i in range(size)] for size in (height, width)
    )
    seen = mask_of(height * width, lambda i, j: j // width in rows[i // width] and j % width in columns[i % width])
    bias = torch.zeros(heads, height * width, height * width, dtype=x.dtype)
    for i, j in seen.nonzero().tolist() if "rel_pos_bias" in weights else ():
        row, column = ((b - a) // dilation for a, b in ((i // width, j // width), (i % width, j % width)))
        bias[:, i, j] = weights["rel_pos_bias"][:, row + kernel - 1, column + kernel - 1]
    return map_of(masked(weights, tokens_of(x), heads, seen, bias), x)


def published_natten(
    weights: Weights, x: Tensor, heads: int, kernel: int, dilation: int = 1, causal: bool = False
) -> Tensor:
    """In float32 and without gradients, which natten does not have on the CPU."""
    published = importlib.import_module("natten.functional").na2d
    qkv = project(weights, "qkv", tokens_of(x)).float().chunk(3, -1)
    laid_out = (each.reshape(len(x), *x.shape[2:], heads, -1) for each in qkv)
    with warnings.catch_warnings(action="ignore"):  # it calls flex_attention as older torch wanted it
        attended = published(*laid_out, kernel_size=(kernel, kernel), dilation=dilation, is_causal=causal)
    return map_of(project(weights, "out", attended.flatten(3).flatten(1, 2).to(x.dtype)), x)


# --- lines


def sliding(weights: Weights, x: Tensor, heads: int, before: int, after: int) -> Tensor:
    return masked(weights, x, heads, mask_of(x.shape[1], lambda i, j: -before <= j - i <= after))


class LocalCore(nn.Module):
    """local-attention between our projections: it has none of its own."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), heads
        published = importlib.import_module("local_attention").LocalAttention
        self.core = published(
            window, causal=True, exact_windowsize=True, autopad=True, use_rotary_pos_emb=False, look_backward=1
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (cut(each, self.heads) for each in self.qkv(x).chunk(3, -1))
        y: Tensor = self.out(joined(self.core(query, key, value)))
        return y


def local_attention(weights: Weights, x: Tensor, heads: int, window: int) -> Tensor:
    return weighted(LocalCore(x.shape[-1], heads, window), weights, x)


def longformer(weights: Weights, x: Tensor, heads: int, window: int) -> Tensor:
    """Its layer ends before W_o; its second set of projections, for global tokens, is not used here."""
    module = importlib.import_module("transformers.models.longformer.modeling_longformer")
    config = module.LongformerConfig(
        hidden_size=x.shape[-1], num_attention_heads=heads, attention_window=[window], attention_probs_dropout_prob=0.0
    )
    named = {
        f"{name}{suffix}.{kind}": part if suffix == "" else torch.zeros_like(part)
        for kind in ("weight", "bias")
        for name, part in zip(("query", "key", "value"), weights[f"qkv.{kind}"].chunk(3), strict=True)
        for suffix in ("", "_global")
    }
    nobody = torch.zeros(x.shape[:2], dtype=torch.bool)
    options = {"attention_mask": nobody.to(x.dtype), "is_index_masked": nobody, "is_index_global_attn": nobody}
    published = module.LongformerSelfAttention(config, 0)
    return project(weights, "out", weighted(published, named, x, is_global_attn=False, **options))


def axial(weights: Weights, x: Tensor, heads: int) -> Tensor:
    width = x.shape[3]
    size = x.shape[2] * width
    masks = {"columns": mask_of(size, lambda i, j: i % width == j % width),
             "rows": mask_of(size, lambda i, j: i // width == j // width)}  # fmt: skip
    of = {axis: {name.removeprefix(f"{axis}."): each for name, each in weights.items()} for axis in masks}
    return sum((map_of(masked(of[axis], tokens_of(x), heads, seen), x) for axis, seen in masks.items()), x * 0)


def axial_attention(weights: Weights, x: Tensor, heads: int) -> Tensor:
    published = importlib.import_module("axial_attention").AxialAttention(x.shape[1], heads=heads, dim_index=1)
    named = {}
    for theirs, ours in enumerate(("columns", "rows")):
        layer = f"axial_attentions.{theirs}.fn"
        query, key, value = weights[f"{ours}.qkv.weight"].chunk(3)
        named |= {f"{layer}.to_q.weight": query, f"{layer}.to_kv.weight": torch.cat([key, value])}
        named |= {f"{layer}.to_out.{kind}": weights[f"{ours}.out.{kind}"] for kind in ("weight", "bias")}
    return weighted(published, named, x)


def criss_cross(weights: Weights, x: Tensor, recurrence: int = 1, twice: bool = False) -> Tensor:
    """`twice`: the mistake that the position itself, which is in its row and in its column, is counted twice."""
    width = x.shape[3]
    seen = mask_of(x.shape[2] * width, lambda i, j: i % width == j % width or i // width == j // width)
    bias = torch.eye(len(seen), dtype=x.dtype) * torch.tensor(2.0).log() * twice
    for _ in range(recurrence):
        query, key, value = (project(weights, name, tokens_of(x))[:, None] for name in ("query", "key", "value"))
        x = weights["gamma"] * map_of(attend(query, key, value, seen, bias)[:, 0], x) + x
    return x


def fightingcv_criss_cross(weights: Weights, x: Tensor, recurrence: int) -> Tensor:
    published = importlib.import_module("fightingcv_attention.attention.CrissCrossAttention").CrissCrossAttention
    named = {name if name == "gamma" else name.replace(".", "_conv."): each for name, each in weights.items()}
    for _ in range(recurrence):
        x = weighted(published(x.shape[1]), named, x)
    return x


# --- chosen blocks


def biformer(
    weights: Weights, x: Tensor, heads: int, n_win: int, topk: int, side_dwconv: int, scale: float | None = None
) -> Tensor:
    """Padded, then as a mask over all positions; the depthwise convolution as a sum over shifted maps."""
    height, width = (-(-side // n_win) * n_win for side in x.shape[2:])
    whole = torch.zeros(*x.shape[:2], height, width, dtype=x.dtype)
    whole[:, :, : x.shape[2], : x.shape[3]] = x
    region = [p // width // (height // n_win) * n_win + p % width // (width // n_win) for p in range(height * width)]
    query, key, value = project(weights, "qkv", tokens_of(whole)).chunk(3, -1)
    belongs = torch.tensor([[float(r == each) for each in region] for r in range(n_win**2)], dtype=x.dtype)
    fit = torch.einsum("brc,bsc->brs", *(torch.einsum("rn,bnc->brc", belongs, each.detach()) for each in (query, key)))
    seen = torch.zeros(len(x), 1, len(region), len(region), dtype=torch.bool)
    for b, i in ((b, i) for b in range(len(x)) for i in range(len(region))):
        chosen = sorted(range(n_win**2), key=lambda r: -float(fit[b, region[i], r]))[:topk]
        seen[b, 0, i] = torch.tensor([r in chosen for r in region])
    scale = x.shape[1] ** -0.5 if scale is None else scale
    y = joined(attend(cut(query * scale, heads), cut(key, heads), cut(value, heads), seen))
    y = y + tokens_of(depthwise(weights, map_of(value, whole), side_dwconv)) if side_dwconv else y
    return map_of(project(weights, "out", y), whole)[:, :, : x.shape[2], : x.shape[3]]


def depthwise(weights: Weights, x: Tensor, kernel: int) -> Tensor:
    reach = kernel // 2
    wide = nn.functional.pad(x, (reach, reach, reach, reach))
    taps = weights["side.weight"][:, 0, :, :, None, None]  # (C, k, k, 1, 1)
    y = weights["side.bias"][:, None, None].expand(x.shape)
    for i in range(kernel):
        for j in range(kernel):
            y = y + taps[:, i, j] * wide[:, :, i : i + x.shape[2], j : j + x.shape[3]]
    return y


def bigbird(weights: Weights, x: Tensor, heads: int, block: int, random: Tensor | None) -> Tensor:
    """`random` (heads, n - 2, r) as the module drew them; None: everything is seen."""
    last = -(-x.shape[1] // block) - 1

    def sees(head: int, i: int, j: int) -> bool:
        i, j = i // block, j // block
        near = abs(i - j) <= 1 or {i, j} & {0, last}
        return random is None or bool(near) or j in random[head, i - 1].tolist()

    seen = torch.stack([mask_of(x.shape[1], lambda i, j, h=head: sees(h, i, j)) for head in range(heads)])
    query, key, value = (cut(project(weights, name, x), heads) for name in ("query", "key", "value"))
    return joined(attend(query * query.shape[-1] ** -0.5, key, value, seen))


def transformers_bigbird(weights: Weights, x: Tensor, heads: int, block: int, random: Tensor) -> Tensor:
    """With the random blocks of our module in place of its own."""
    module = importlib.import_module("transformers.models.big_bird.modeling_big_bird")
    config = module.BigBirdConfig(
        hidden_size=x.shape[-1], num_attention_heads=heads, block_size=block, num_random_blocks=random.shape[-1]
    )
    published = module.BigBirdBlockSparseAttention(config)
    published._bigbird_block_rand_mask_with_head = lambda **_: [each.numpy() for each in random]
    seen = torch.ones(x.shape[:2], dtype=x.dtype)
    masks = module.BigBirdModel.create_masks_for_block_sparse_attn(seen, block)
    names = ("blocked", "band_mask", "from_mask", "to_mask")
    given: dict[str, Any] = dict(zip(names, masks, strict=True))
    blocked = given.pop("blocked")
    return weighted(published, weights, x, from_blocked_mask=blocked, to_blocked_mask=blocked, **given)


# --- hashing


class Seeded(nn.Module):
    """A module that draws in its forward, with the same numbers in each."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *x: Tensor) -> Tensor:
        torch.manual_seed(0)
        y: Tensor = self.module(*x)
        return y


def lsh(
    weights: Weights, x: Tensor, heads: int, bucket_size: int, n_hashes: int, causal: bool = False, itself: bool = False
) -> Tensor:
    """Token by token from lists of the positions in each chunk. `itself`: the mistake that a token sees itself."""
    size = x.shape[1]
    whole = -(-size // (2 * bucket_size)) * 2 * bucket_size
    pairs = whole // bucket_size // 2
    query, value = (cut(project(weights, f"module.{name}", x), heads) for name in ("query_key", "value"))
    torch.manual_seed(0)
    rotations = torch.randn(query.shape[-1], n_hashes * pairs).double().unflatten(-1, (n_hashes, pairs))
    flat = zip(query.flatten(0, 1), value.flatten(0, 1), strict=True)
    y = torch.stack([_lsh_of_one(q, v, rotations, bucket_size, whole, causal, itself) for q, v in flat])
    return project(weights, "module.out", joined(y.unflatten(0, (-1, heads))))


def _lsh_of_one(
    query: Tensor, value: Tensor, rotations: Tensor, bucket_size: int, whole: int, causal: bool, itself: bool
) -> Tensor:
    """One sequence of one head, (N, d)."""
    order: list[int] = []
    for r in range(rotations.shape[1]):
        turned = query.detach() @ rotations[:, r]
        bucket = torch.cat([turned, -turned], dim=-1).argmax(-1).tolist()
        order += sorted(range(whole), key=lambda i: (bucket[i] if i < len(query) else whole, i))
    chunks = [order[at : at + bucket_size] for at in range(0, len(order), bucket_size)]
    key = query / query.norm(dim=-1, keepdim=True)
    rows: dict[int, list[tuple[Tensor, Tensor]]] = {i: [] for i in range(len(query))}
    for n, chunk in enumerate(chunks):
        for i in (each for each in chunk if each < len(query)):
            others = [j for j in chunk + chunks[n - 1] if j < len(query) and not (causal and j > i)]
            seen = [j for j in others if itself or j != i] or [i]
            scores = key[seen] @ query[i] * query.shape[-1] ** -0.5
            if seen == [i]:
                scores = torch.full_like(scores, -5e4)
            rows[i].append((scores, value[seen]))
    return torch.stack([_over_rounds(each) for each in rows.values()])


def _over_rounds(rounds: list[tuple[Tensor, Tensor]]) -> Tensor:
    """What is seen in several rounds counts as often: one softmax over all that any round sees."""
    shares = torch.cat([scores for scores, _ in rounds]).softmax(0)
    return shares @ torch.cat([values for _, values in rounds])


def reformer(weights: Weights, x: Tensor, heads: int, bucket_size: int, n_hashes: int, causal: bool) -> Tensor:
    """Its rotations drawn in float32, as ours are."""
    published = importlib.import_module("reformer_pytorch").LSHSelfAttention(
        x.shape[-1], heads, bucket_size, n_hashes, causal
    )
    names = {"toqk.weight": "query_key.weight", "tov.weight": "value.weight"}
    names |= {f"to_out.{kind}": f"out.{kind}" for kind in ("weight", "bias")}
    drawn = torch.randn
    torch.manual_seed(0)

    def in_float32(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        return drawn(shape, device=device).to(dtype)

    published = published.double()
    with mock.patch("torch.randn", in_float32):
        return weighted(published, {theirs: weights[f"module.{ours}"] for theirs, ours in names.items()}, x)
