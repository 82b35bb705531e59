"""The dual family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from typing import Any

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "cbam": [{"rate": 16, "kernel_size": 7}, {"mlp_bias": True, "bn": True}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    ("cbam", {}, (1, 64, 1, 32, 32), 4_096 + 18_432),
]
