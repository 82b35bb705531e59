"""The spatial family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from typing import Any

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "cbam_spatial": [{"kernel_size": 7}, {"bn": True}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # 3*3*2 = 18 and 7*7*2 = 98 taps at 1024 positions
    ("cbam_spatial", {}, (1, 64, 1, 32, 32), 18_432),
    ("cbam_spatial", {"kernel_size": 7}, (1, 64, 1, 32, 32), 100_352),
]
