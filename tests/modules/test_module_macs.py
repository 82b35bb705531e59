"""The MAC formulas against integers derived by hand, against torch's counter, and against the claims they refute."""

from typing import Any

import pytest
import torch
from families import gathered
from module_cases import SHAPES, Shape, build, build_on_meta, every_case, every_shape, inputs, symbols
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attnbench.core.formula import Formula
from attnbench.modules.spec import Spec
from attnbench.targets.catalogue import find
from attnbench.targets.networks import VGG16


def counted(module: torch.nn.Module, *x: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*x)
    return int(counter.get_total_flops()) // 2  # 1 MAC = 2 FLOPs


BY_HAND = gathered("BY_HAND")


@pytest.mark.parametrize(("name", "hyper", "shape", "macs"), BY_HAND)
def test_the_formula_gives_the_number_derived_by_hand(
    name: str, hyper: dict[str, Any], shape: Shape, macs: int
) -> None:
    spec = find(name)
    assert spec.macs(**symbols(spec, shape, hyper)) == macs


@every_case
@every_shape
def test_the_formula_is_what_torch_counts(spec: Spec, hyper: dict[str, Any], shape: Shape) -> None:
    """On the meta device scaled_dot_product_attention falls apart into matrix products, so that none is missed."""
    x = [each.to("meta") for each in inputs(spec, shape)]
    given = symbols(spec, shape, hyper)
    unheard = Formula(dict(gathered("UNHEARD_BY_TORCH")).get(spec.name, "0"))(**given)
    assert counted(build_on_meta(spec, shape, hyper), *x) + unheard == spec.macs(**given)


def test_the_formula_of_sdpa_is_what_the_math_backend_computes() -> None:
    """The counter may miss the CPU's fused kernel and give the projections alone; the math backend is counted."""
    spec, shape = find("sdpa"), SHAPES[0]
    with sdpa_kernel(SDPBackend.MATH):
        assert counted(build(spec, shape, {}), *inputs(spec, shape)) == spec.macs(**symbols(spec, shape, {}))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 224), (45, 63), (100, 351)])
def test_the_formula_of_vgg16_is_what_torch_counts(height: int, width: int) -> None:
    spec = find("vgg16")
    shape = {"B": 2, "N": height * width, "H": height, "W": width, "C": 3, "dim": 3, "num_classes": 10}
    with torch.device("meta"):
        network = VGG16(num_classes=10).eval()
    assert counted(network, torch.empty(2, 3, height, width, device="meta")) == spec.macs(**spec.symbols(**shape))


def growth(name: str, tokens: int) -> float:
    """By how much the MACs grow when N grows by 4."""
    spec = find(name)
    few, many = (spec.macs(**symbols(spec, (1, 64, 4, n, n), {})) for n in (tokens, 2 * tokens))
    return many / few


def test_the_published_claim_of_pseudo_linear_attn_is_refuted_by_its_formula() -> None:
    claimed = find("pseudo_linear_attn")
    assert (claimed.complexity, claimed.memory) == ("N", "N")
    assert growth("pseudo_linear_attn", 1024) == pytest.approx(16, rel=1e-3)


@pytest.mark.parametrize("name", ["linear_attn", "efficient_attn", "cbam_spatial"])
def test_what_is_linear_grows_by_four(name: str) -> None:
    assert growth(name, 1024) == 4


@pytest.mark.parametrize("name", ["self_attn", "sdpa", "mha", "scaled_dot_product", "additive_attn"])
def test_what_is_quadratic_grows_by_sixteen(name: str) -> None:
    assert growth(name, 1024) == pytest.approx(16, rel=1e-3)
