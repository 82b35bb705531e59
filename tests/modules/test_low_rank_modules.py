"""What the low-rank attentions refuse, which samples meet, and what they do with lengths they were not built for."""

import pytest
import torch
from module_numerics import filled, noise, relative_error

from attnbench.modules.low_rank import (
    AgentAttention,
    DoubleAttention,
    LinformerAttention,
    NystromAttention,
    SpatialReductionAttention,
)


def first_alone(module: torch.nn.Module) -> float:
    """How far the first sample's output moves when the second is taken away."""
    x = noise(2, 33, 32) * torch.tensor([1.0, 9.0])[:, None, None]
    return relative_error(module(x)[:1], module(x[:1]))


def test_samples_meet_in_the_start_of_the_pseudo_inverse() -> None:
    """With few iterations it is plain to see; a start of their own keeps them apart."""
    assert first_alone(filled(NystromAttention(32, 4, 8, 2))) > 1e-2
    assert first_alone(filled(NystromAttention(32, 4, 8, 2, own_start=True))) < 1e-6


def test_the_iteration_comes_to_the_pseudo_inverse_where_there_is_one() -> None:
    matrix = (4 * torch.eye(8, dtype=torch.float64) + noise(2, 3, 8, 8).double()).softmax(dim=-1)
    inverse = NystromAttention(32, 4, 8, pinv_iterations=10)._pseudo_inverse(matrix)
    assert relative_error(inverse, torch.linalg.inv(matrix)) < 1e-10


def test_zeros_in_front_take_part() -> None:
    """As in public code: three landmarks of eleven tokens are those of a zero and eleven tokens."""
    module, x = filled(NystromAttention(32, 4, 3)), noise(2, 11, 32)
    padded = torch.cat((torch.zeros(2, 1, 32), x), dim=1)
    torch.testing.assert_close(module(x), module(padded)[:, 1:])


def test_linformer_takes_fewer_tokens_and_refuses_more() -> None:
    module = LinformerAttention(32, 4, 20, k=5)
    assert module(noise(2, 7, 32)).shape == (2, 7, 32)
    with pytest.raises(ValueError, match="21 tokens are more than seq_len=20"):
        module(noise(2, 21, 32))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 2)])
def test_maps_smaller_than_the_reduction_work(height: int, width: int) -> None:
    assert SpatialReductionAttention(32, 4, 8)(noise(1, 32, height, width)).shape == (1, 32, height, width)


def test_what_is_refused_says_why() -> None:
    for refused in (LinformerAttention, AgentAttention):
        with pytest.raises(ValueError, match="dim=32 is not divisible by the number of heads, 5"):
            refused(32, 5, 4, 4)  # type: ignore[call-arg]
    for refused in (NystromAttention, SpatialReductionAttention):
        with pytest.raises(ValueError, match="dim=32 is not divisible by the number of heads, 5"):
            refused(32, 5)
    with pytest.raises(ValueError, match="residual_conv_kernel=4 is even"):
        NystromAttention(32, 4, residual_conv_kernel=4)
    with pytest.raises(ValueError, match="agent_num=50 is not a square number"):
        AgentAttention(32, 4, 7, 7, agent_num=50)
    with pytest.raises(ValueError, match="dim=3 is smaller than"):
        DoubleAttention(3)
