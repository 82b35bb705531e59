"""What torch's flex_attention is told: which keys a query sees, which blocks hold any of them, biases of the scores."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

__all__ = ["Band", "FlexCore", "alibi", "blocks_of"]

# (batch, head, query, key) -> whether the key is seen; (score, batch, head, query, key) -> the score.
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

_BLOCK = 128  # queries and keys of a block, as torch has it
_FAR = 2**30  # no sequence is as long


@dataclass(frozen=True, slots=True)
class Band:
    """The keys that a query sees: those at most so many tokens behind it, and so many ahead."""

    behind: int = _FAR
    ahead: int = _FAR

    def __post_init__(self) -> None:
        if min(self.behind, self.ahead) < 0:
            raise ValueError(f"window={min(self.behind, self.ahead)} is negative: a query would not see itself")

    @property
    def everything(self) -> bool:
        return self.behind == self.ahead == _FAR

    def mask_mod(self) -> MaskMod:
        behind, ahead = self.behind, self.ahead

        def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query - key <= behind) & (key - query <= ahead)

        return visible


def alibi(heads: int) -> ScoreMod:
    """Scores less 2^(-8 h / heads) times the distance, h = 1 ... heads (Press et al. 2021, arXiv:2108.12409)."""

    def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score - torch.exp2(-8.0 / heads * (head + 1)) * (query - key).abs()

    return biased


def blocks_of(band: Band, mask_mod: MaskMod, tokens: int, device: torch.device) -> BlockMask:
    """The blocks of (N, N) scores that hold a visible pair, and those that hold no other, without making the scores.

    Over a block, query - key takes every value from `least` to `most`. A block that reaches beyond the last token is
    not full: there the kernel has to look.
    """
    first = torch.arange(0, tokens, _BLOCK, device=device)
    last = (first + _BLOCK).clamp(max=tokens) - 1
    least, most = first[:, None] - last, last[:, None] - first  # (blocks of queries, blocks of keys)
    whole = last - first == _BLOCK - 1
    some = (least <= band.behind) & (most >= -band.ahead)
    full = (most <= band.behind) & (least >= -band.ahead) & whole[:, None] & whole
    return BlockMask.from_kv_blocks(
        *_listed(some & ~full), *_listed(full), BLOCK_SIZE=_BLOCK, mask_mod=mask_mod, seq_lengths=(tokens, tokens)
    )


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has, (1, 1, Q), and which, the chosen first, (1, 1, Q, K)."""
    order = chosen.int().argsort(dim=-1, descending=True, stable=True).int()
    return chosen.sum(-1, dtype=torch.int32)[None, None], order[None, None]


class FlexCore(nn.Module):
    """flex_attention of (B, heads, N, d) within a band, with a bias; the blocks of each length are found once."""

    def __init__(self, band: Band, score_mod: ScoreMod | None) -> None:
        super().__init__()
        self.band, self.score_mod = band, score_mod
        self.mask_mod = None if band.everything else band.mask_mod()
        self.skips_masked = self.mask_mod is not None  # once compiled: so its MACs say nothing of a roof
        self._blocks: dict[tuple[int, torch.device], BlockMask] = {}

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Raises NotImplementedError where a gradient is wanted on the CPU: torch has none there."""
        if query.device.type == "meta":
            return self._without_data(query, key, value)
        wanted = torch.is_grad_enabled() and query.requires_grad
        if wanted and query.device.type == "cpu" and type(query) is Tensor:  # fake ones may stand for another device
            raise NotImplementedError("flex_attention has no backward on the CPU: use --mode fwd, or a CUDA device")
        blocks = self._blocks_for(query)
        if torch.compiler.is_compiling():
            return flex_attention(query, key, value, score_mod=self.score_mod, block_mask=blocks)
        with warnings.catch_warnings():
            # Run eagerly it is not fused: torch warns of it on standard error, we say so where it is described.
            warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
            return flex_attention(query, key, value, score_mod=self.score_mod, block_mask=blocks)

    def _blocks_for(self, query: Tensor) -> BlockMask | None:
        if self.mask_mod is None:
            return None
        tokens, device = query.shape[2], query.device
        if type(query) is not Tensor:  # blocks of fake tensors are of no use to others
            return blocks_of(self.band, self.mask_mod, tokens, device)
        if (tokens, device) in self._blocks:
            return self._blocks[tokens, device]
        blocks = blocks_of(self.band, self.mask_mod, tokens, device)
        if not torch.compiler.is_compiling():
            self._blocks[tokens, device] = blocks
        return blocks

    def _without_data(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The same as torch runs it eagerly, step by step: flex_attention itself refuses meta tensors."""
        heads, tokens = query.shape[1], query.shape[2]
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        place = torch.arange(tokens, device=query.device)
        at = place[:1], torch.arange(heads, device=query.device)[:, None, None], place[:, None], place
        scores = (query @ key.transpose(-2, -1)).to(wide) * query.shape[-1] ** -0.5  # (B, heads, N, N)
        if self.score_mod is not None:
            scores = self.score_mod(scores, *at)
        if self.mask_mod is not None:
            scores = scores.masked_fill(~self.mask_mod(*at), float("-inf"))
        attended: Tensor = scores.softmax(dim=-1).to(value.dtype) @ value  # (B, heads, N, d)
        return attended
