"""The MAC formulas against integers derived by hand, against torch's counter, and against the claims they refute."""

from typing import Any

import pytest
import torch
from module_cases import SHAPES, Shape, build, build_on_meta, every_case, every_shape, inputs, symbols
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attnbench.modules.spec import Spec
from attnbench.targets.catalogue import find
from attnbench.targets.networks import VGG16


def counted(module: torch.nn.Module, *x: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*x)
    return int(counter.get_total_flops()) // 2  # 1 MAC = 2 FLOPs


# (name, hyper-parameters, (B, C, heads, H, W), MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 4096, d_k = 8: projections N*64*(8 + 8 + 64) = 20,971,520; q k^T N^2*8 = 134,217,728; A v N^2*64
    ("self_attn", {}, (1, 64, 1, 64, 64), 20_971_520 + 134_217_728 + 1_073_741_824),
    # N = 1024: qkv and out 4*1024*64*64 = 16,777,216; twice 1024*1024*64 = 67,108,864
    ("sdpa", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 67_108_864),
    # the fused kernel may skip, the dense product is what is counted
    ("sdpa", {"causal": True}, (1, 64, 4, 32, 32), 150_994_944),
    ("mha", {}, (1, 64, 4, 32, 32), 150_994_944),
    # N = 16, 4 heads: q, k 16*64*32 = 32,768 each; v, out 16*64*96 = 98,304 each; 256*32 and 256*96; batch 2
    ("mha", {"d_k": 8, "d_v": 24}, (2, 64, 4, 4, 4), 2 * (2 * 32_768 + 2 * 98_304 + 8_192 + 24_576)),
    # N = 64, C = 16: 2*64*64*16 = 131,072; batch 3
    ("scaled_dot_product", {}, (3, 16, 1, 8, 8), 3 * 131_072),
    # N = 10, C = 32: q and k 10*32*32 = 10,240 each; v.tanh 100*32 and the sum of keys 100*32
    ("additive_attn", {}, (1, 32, 1, 2, 5), 2 * 10_240 + 3_200 + 3_200),
    # N = 1024: q, k 1024*64*8 = 524,288 each; v, out 1024*64*64 = 4,194,304 each; N^2*8 and N^2*64
    ("pseudo_linear_attn", {}, (1, 64, 1, 32, 32), 2 * 524_288 + 2 * 4_194_304 + 8_388_608 + 67_108_864),
    # N = 1024, d = 16: four projections; k^T v and q S, 1024*64*16 = 1,048,576 each; q.z 1024*64 = 65,536
    ("linear_attn", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_048_576 + 65_536),
    ("efficient_attn", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_048_576),
    # hidden 16: 64*16 + 16*64 on one pixel; batch 2
    ("se", {}, (2, 64, 1, 32, 32), 2 * 2_048),
    ("cbam_channel", {}, (2, 64, 1, 32, 32), 2 * 2 * 2_048),
    # 3*3*2 = 18 and 7*7*2 = 98 taps at 1024 positions
    ("cbam_spatial", {}, (1, 64, 1, 32, 32), 18_432),
    ("cbam_spatial", {"kernel_size": 7}, (1, 64, 1, 32, 32), 100_352),
    ("cbam", {}, (1, 64, 1, 32, 32), 4_096 + 18_432),
]


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
    assert counted(build_on_meta(spec, shape, hyper), *x) == spec.macs(**symbols(spec, shape, hyper))


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
