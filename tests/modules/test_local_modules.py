"""What the local attentions do beside their formulas: what they see, draw, keep from gradients, and refuse."""

import copy
from typing import Any

import pytest
import torch
from module_numerics import filled, noise
from torch import Tensor, nn

from attnbench.modules.local import (
    AxialAttention,
    BigBirdAttention,
    BiLevelRoutingAttention,
    CrissCrossAttention,
    LocallyGroupedAttention,
    LshAttention,
    NeighborhoodAttention,
    ShiftedWindowAttention,
    SlidingWindowAttention,
)
from attnbench.modules.parts.drawn_blocks import drawn_blocks


def seen_from(module: nn.Module, x: Tensor, *position: int) -> Tensor:
    """Of which positions of the input the output at that position depends: true or false for each."""
    x = x.requires_grad_()
    y = filled(module)(x)
    channels = -3 if y.dim() == 4 else -1
    at = y[0][:, position[0], position[1]] if y.dim() == 4 else y[0][position[0]]
    (gradient,) = torch.autograd.grad(at.square().sum(), x)
    return gradient[0].abs().sum(channels) > 0


def test_a_window_of_neighbours_is_shifted_at_the_border() -> None:
    seen = seen_from(NeighborhoodAttention(16, 2, kernel_size=5), noise(1, 16, 9, 11), 0, 9)
    assert seen.nonzero().tolist() == [[i, j] for i in range(5) for j in range(6, 11)]


@pytest.mark.parametrize("position", [(0, 0), (4, 5), (8, 10)])
def test_every_position_has_as_many_neighbours(position: tuple[int, int]) -> None:
    dilated = NeighborhoodAttention(16, 2, kernel_size=3, dilation=2)
    assert seen_from(dilated, noise(1, 16, 9, 11), *position).sum() == 9


def test_causal_neighbours_come_before() -> None:
    seen = seen_from(NeighborhoodAttention(16, 2, kernel_size=3, causal=True), noise(1, 16, 6, 7), 4, 1)
    assert seen.nonzero().tolist() == [[i, j] for i in (2, 3, 4) for j in (0, 1)]


@pytest.mark.parametrize(("causal", "first", "last"), [(True, 12, 20), (False, 16, 24)])
def test_a_window_of_eight_is_nine_keys(causal: bool, first: int, last: int) -> None:
    seen = seen_from(SlidingWindowAttention(16, 2, window=8, causal=causal), noise(1, 35, 16), 20)
    assert seen.nonzero().flatten().tolist() == list(range(first, last + 1))


@pytest.mark.parametrize(("recurrence", "count"), [(1, 5 + 7 - 1), (2, 5 * 7)])
def test_two_criss_crosses_reach_every_position(recurrence: int, count: int) -> None:
    assert seen_from(CrissCrossAttention(16, recurrence=recurrence), noise(1, 16, 5, 7), 2, 3).sum() == count


def test_rows_and_columns_are_what_axial_attention_sees() -> None:
    seen = seen_from(AxialAttention(16, 2), noise(1, 16, 5, 7), 2, 3)
    assert seen.nonzero().tolist() == [[i, j] for i in range(5) for j in range(7) if i == 2 or j == 3]


def test_windows_are_moved_by_half_and_cut_at_the_border() -> None:
    corner = seen_from(ShiftedWindowAttention(16, 2, window=4), noise(1, 16, 8, 12), 0, 0)
    assert corner.nonzero().tolist() == [[i, j] for i in (0, 1) for j in (0, 1)]
    inside = seen_from(ShiftedWindowAttention(16, 2, window=4), noise(1, 16, 8, 12), 3, 4)
    assert inside.nonzero().tolist() == [[i, j] for i in range(2, 6) for j in range(2, 6)]


def test_a_map_that_fits_into_a_window_is_not_shifted() -> None:
    x, plain = noise(2, 16, 5, 7), filled(ShiftedWindowAttention(16, 2, shift=False))
    assert torch.equal(filled(ShiftedWindowAttention(16, 2))(x), plain(x))


def test_a_region_sees_as_many_regions_as_asked() -> None:
    module = BiLevelRoutingAttention(16, 2, n_win=4, topk=3, side_dwconv=0)
    seen = seen_from(module, noise(1, 16, 8, 8), 5, 2)
    seen[5, 2] = False  # its query is its own in any case
    regions = [(i // 2, j // 2) for i, j in seen.nonzero().tolist()]
    assert sorted(regions.count(region) for region in set(regions)) in ([4, 4, 4], [3, 4, 4])


def test_random_blocks_are_distinct_and_none_that_is_seen_anyway() -> None:
    drawn = drawn_blocks(heads=3, blocks=12, count=3, seed=0)
    assert drawn.shape == (3, 10, 3)
    for head in drawn.tolist():
        for block, chosen in enumerate(head, start=1):
            assert len(set(chosen)) == 3
            assert not {0, 11, block - 1, block, block + 1} & set(chosen)
            assert set(chosen) <= set(range(12))


def test_every_free_block_is_drawn_about_as_often() -> None:
    drawn = drawn_blocks(heads=4000, blocks=9, count=2, seed=1)
    counts = drawn[:, 3].flatten().bincount(minlength=9).tolist()  # block 4: 1, 2, 6 and 7 are free
    assert [counts[i] for i in (0, 3, 4, 5, 8)] == [0] * 5
    assert all(abs(counts[i] - 2000) < 200 for i in (1, 2, 6, 7))


def test_the_seed_and_no_state_of_torch_decides_the_random_blocks() -> None:
    torch.manual_seed(5)
    first = BigBirdAttention(16, 2, 64, block=4).seen
    torch.manual_seed(6)
    assert torch.equal(BigBirdAttention(16, 2, 64, block=4).seen, first)
    assert not torch.equal(BigBirdAttention(16, 2, 64, block=4, seed=1).seen, first)


def test_other_lengths_of_as_many_blocks_are_taken_and_others_refused() -> None:
    module = BigBirdAttention(16, 2, 64, block=4)
    assert module(noise(1, 62, 16)).shape == (1, 62, 16)
    with pytest.raises(ValueError, match="65 tokens do not make the 16 blocks of 4 it was built for"):
        module(noise(1, 65, 16))


def test_lsh_draws_in_each_forward() -> None:
    module, x = filled(LshAttention(16, 2, bucket_size=4, n_hashes=1)), noise(1, 64, 16)
    torch.manual_seed(0)
    first, second = module(x), module(x)
    torch.manual_seed(0)
    assert torch.equal(module(x), first)
    assert not torch.equal(second, first)


def test_lsh_of_no_more_than_a_bucket_is_attention_over_all_others() -> None:
    module, x = filled(LshAttention(16, 2, bucket_size=16)), noise(1, 13, 16)
    torch.testing.assert_close(module(x), module(x))  # summed in another order each time
    assert seen_from(module, x, 4).all()


PADDED: list[tuple[nn.Module, Tensor]] = [
    (SlidingWindowAttention(16, 2, window=4), noise(1, 33, 16)),
    (SlidingWindowAttention(16, 2, window=8, causal=True), noise(1, 33, 16)),
    (LshAttention(16, 2, bucket_size=4), noise(1, 33, 16)),
    (LshAttention(16, 2, bucket_size=4, causal=True), noise(1, 33, 16)),
    (BigBirdAttention(16, 2, 33, block=4, random_blocks=1), noise(1, 33, 16)),
    (NeighborhoodAttention(16, 2, kernel_size=5, dilation=2), noise(1, 16, 7, 9)),
]


@pytest.mark.parametrize(("module", "x"), PADDED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_what_is_masked_gives_no_gradient_that_is_not_a_number(
    module: nn.Module, x: Tensor, dtype: torch.dtype
) -> None:
    module, x = filled(copy.deepcopy(module)).to(dtype), x.detach().to(dtype).requires_grad_()
    module(x).square().sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in (x, *module.parameters()))


WITH_HEADS: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (ShiftedWindowAttention, {}),
    (NeighborhoodAttention, {}),
    (SlidingWindowAttention, {}),
    (AxialAttention, {}),
    (LocallyGroupedAttention, {}),
    (BiLevelRoutingAttention, {}),
    (BigBirdAttention, {"seq_len": 64}),
    (LshAttention, {}),
]


@pytest.mark.parametrize(("module", "more"), WITH_HEADS)
def test_heads_that_do_not_divide_the_width_are_refused(module: type[nn.Module], more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="dim=64 is not divisible by the number of heads, 5"):
        module(64, 5, **more)


@pytest.mark.parametrize(
    ("module", "hyper", "why"),
    [
        (ShiftedWindowAttention, {"window": 0}, "window=0 must be at least 1"),
        (LocallyGroupedAttention, {"window": -7}, "window=-7 must be at least 1"),
        (SlidingWindowAttention, {"window": 0}, "window=0 must be at least 1"),
        (NeighborhoodAttention, {"kernel_size": 0}, "kernel_size=0 must be at least 1"),
        (NeighborhoodAttention, {"dilation": 0}, "dilation=0 must be at least 1"),
        (BiLevelRoutingAttention, {"n_win": 2, "topk": 5}, "topk=5 is not between 1 and the number of regions"),
        (BiLevelRoutingAttention, {"n_win": 0}, "n_win=0 must be at least 1"),
        (BiLevelRoutingAttention, {"side_dwconv": 4}, "side_dwconv=4 is even"),
        (BigBirdAttention, {"seq_len": 64, "block": 0}, "block=0 must be at least 1"),
        (BigBirdAttention, {"seq_len": 64, "random_blocks": -1}, "random_blocks=-1 must be at least 0"),
        (LshAttention, {"n_hashes": 0}, "n_hashes=0 must be at least 1"),
        (LshAttention, {"bucket_size": 0}, "bucket_size=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(module: type[nn.Module], hyper: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        module(16, 2, **hyper)


def test_a_cross_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="recurrence=0 must be at least 1"):
        CrissCrossAttention(16, recurrence=0)
