"""Finds the layout of a module that does not say it, by trying each on the meta device."""

from collections.abc import Mapping

import torch

from attnbench.core.case import Scalar
from attnbench.core.errors import UnsupportedError, first_line
from attnbench.metrics.subject import tensors_in
from attnbench.targets.construct import construct
from attnbench.targets.layouts import LAYOUTS, Shape, make_inputs, plausible
from attnbench.targets.sources import Target

__all__ = ["detect"]


def detect(target: Target, shape: Shape, settings: Mapping[str, Scalar], heads_given: bool) -> str:
    """The layout whose inputs the module takes; one in which it keeps the shape is preferred.

    Raises:
        UnsupportedError: it takes none; the message says what it answered to the first.
    """
    probe = _distinct(shape)
    scores, refusals = _scores(target, probe, settings, heads_given, "meta")
    if not scores and any("meta" in refusal for refusal in refusals):
        scores, refusals = _scores(target, probe, settings, heads_given, "cpu")
    best = max(scores.values(), default=0)
    if best == 0:
        size = f"{shape.height}x{shape.width}" if shape.height is not None else f"{shape.tokens} tokens"
        raise UnsupportedError(f"{target.name} takes none of the layouts at {size}: " + "; ".join(refusals[:3]))
    return next(layout for layout, score in scores.items() if score == best)


def _scores(
    target: Target, probe: Shape, settings: Mapping[str, Scalar], heads_given: bool, device: str
) -> tuple[dict[str, int], list[str]]:
    """How well each layout fits that the module runs with, and what it answers to the others."""
    scores: dict[str, int] = {}
    refusals = []
    with torch.device(device), torch.no_grad():
        module, _ = construct(target.name, target.factory, probe, settings, heads_given)
        for layout in LAYOUTS:
            try:
                inputs = make_inputs(module, layout, probe, torch.float32, device)
                output = next(tensors_in(module.eval()(*inputs)), None)
                scores[layout] = plausible(module, layout, inputs, output)
            except Exception as error:  # foreign code may refuse in any way
                refusals.append(f"{layout}: {first_line(error)[:120]}")
    return scores, refusals


def _distinct(shape: Shape) -> Shape:
    """A shape like this one in which no two axes have the same size, so that a wrong layout cannot pass."""
    height, width, tokens = shape.height, shape.width, shape.tokens
    if height is None or width is None:
        tokens = 2 * tokens if tokens == shape.dim else tokens
    else:
        while shape.dim in (height, width, height * width):
            height, width = 2 * height, 2 * width
        tokens = height * width
    batch = next(size for size in (2, 3, 5, 7, 11) if size not in (height, width, tokens, shape.dim))
    return Shape(batch, height, width, tokens, shape.dim, shape.heads)
