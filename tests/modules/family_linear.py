"""The linear family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from typing import Any

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "linear_attn": [{"eps": 1e-3}],
    "efficient_attn": [{"key_channels": 24}, {"value_channels": 96}, {"key_channels": 24, "value_channels": 12}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 1024, d = 16: four projections; k^T v and q S, 1024*64*16 = 1,048,576 each; q.z 1024*64 = 65,536
    ("linear_attn", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_048_576 + 65_536),
    ("efficient_attn", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_048_576),
]
