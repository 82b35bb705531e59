"""The channel family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from typing import Any

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "se": [{"reduction": 16}, {"reduction": 5}],
    "cbam_channel": [{"rate": 16}, {"rate": 5, "mlp_bias": True}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # hidden 16: 64*16 + 16*64 on one pixel; batch 2
    ("se", {}, (2, 64, 1, 32, 32), 2 * 2_048),
    ("cbam_channel", {}, (2, 64, 1, 32, 32), 2 * 2 * 2_048),
]
