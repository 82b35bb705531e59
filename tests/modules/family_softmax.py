"""The softmax family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from typing import Any

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "self_attn": [{"key_ratio": 4}, {"key_ratio": 3}],
    "sdpa": [{"qkv_bias": False}, {"causal": True}],
    "mha": [{"d_k": 8}, {"d_v": 24}, {"d_k": 5, "d_v": 7, "bias": False}, {"d_o": 40}, {"d_o": 40, "bias": False}],
    "additive_attn": [{"hidden_dim": 24}],
    "pseudo_linear_attn": [{"key_ratio": 2}, {"key_ratio": 5}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
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
]
