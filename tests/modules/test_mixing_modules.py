"""What the mixings refuse, how far they can be trusted in half precision, and how a gate starts."""

import pytest
import torch
from module_numerics import filled, noise, relative_error

from attnbench.modules.mixing import AftFull, FourierMixing, SpatialGating


def test_aft_full_does_not_overflow() -> None:
    """The published form takes exp of the keys as they are: above 88 that is infinite in fp32."""
    module, x = filled(AftFull(32, 20)), 2000 * noise(2, 20, 32)
    assert (module.key(x) > 89).any()
    assert relative_error(module(x), module.double()(x.double())) < 1e-4


def test_aft_full_takes_fewer_tokens_and_refuses_more() -> None:
    module = AftFull(32, 20)
    assert module(noise(2, 7, 32)).shape == (2, 7, 32)
    with pytest.raises(ValueError, match="21 tokens are more than seq_len=20"):
        module(noise(2, 21, 32))


@pytest.mark.parametrize("module", [AftFull(32, 20, causal=True), SpatialGating(32, 20, causal=True)])
def test_a_causal_output_does_not_see_later_tokens(module: torch.nn.Module) -> None:
    x = noise(2, 20, 32)
    changed = torch.cat((x[:, :12], noise(2, 8, 32, seed=5)), dim=1)
    filled(module)
    torch.testing.assert_close(module(changed)[:, :12], module(x)[:, :12])
    assert relative_error(module(changed)[:, 12:], module(x)[:, 12:]) > 1e-2


def test_a_gate_starts_open() -> None:
    """W next to zero and b at one: at first the unit hands on the first half of the channels."""
    x = noise(2, 20, 32)
    torch.testing.assert_close(SpatialGating(32, 20)(x), x[..., :16], rtol=1e-3, atol=1e-3)


def test_odd_widths_are_refused_by_the_gate() -> None:
    with pytest.raises(ValueError, match="dim=33 is odd"):
        SpatialGating(33, 20)
    with pytest.raises(ValueError, match="d_ffn=7 is odd"):
        SpatialGating(32, 20, d_ffn=7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_fourier_mixing_takes_half_precision_and_odd_sizes(dtype: torch.dtype) -> None:
    x = noise(2, 35, 17)
    y = FourierMixing()(x.to(dtype))
    assert y.dtype == dtype
    assert relative_error(y, FourierMixing()(x.to(dtype).double())) < 5e-3
