"""Networks of torchvision that read images, by name: `torchvision:resnet50`, with random weights."""

import inspect
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from torch import nn

from attnbench.core.errors import UnsupportedError, UsageError
from attnbench.targets.providers import library, unknown
from attnbench.targets.sources import Target

__all__ = ["target"]

Builder = Callable[..., nn.Module]

# Packages whose networks are not functions of one image, and what they are.
_OTHERS = {
    "detection": "finds objects, and its cost depends on how many it finds",
    "optical_flow": "compares two images",
    "quantization": "is quantized, and its integer kernels have no weights before calibration",
    "video": "reads videos",
}
# Fetched from the network if they are not switched off.
_WEIGHTS = ("weights", "weights_backbone")


@cache
def target(name: str) -> Target:
    """The network of that name, as torchvision's `get_model` takes it.

    Raises:
        UsageError: torchvision has none, or it reads something else than one image.
    """
    models = library("torchvision").models
    if name not in models.list_models():
        raise unknown("torchvision", name, models.list_models())
    builder = models.get_model_builder(name)
    *_, package, module = builder.__module__.split(".")
    if package in _OTHERS:
        raise UsageError(f"torchvision:{name} {_OTHERS[package]}: attnbench runs networks that read one image.")
    sized: dict[str, Builder] = {"vision_transformer": _square, "maxvit": _sized}
    make = sized.get(module, _built)
    return Target(f"torchvision:{name}", partial(make, builder), layout="bchw")


def _square(builder: Builder, image_size: int | tuple[int, int], **settings: Any) -> nn.Module:
    if isinstance(image_size, tuple) and image_size[0] != image_size[1]:
        raise UnsupportedError("it reads square images")
    side = image_size[0] if isinstance(image_size, tuple) else image_size
    return _built(builder, image_size=side, **settings)


def _sized(builder: Builder, input_size: tuple[int, int], **settings: Any) -> nn.Module:
    return _built(builder, input_size=input_size, **settings)


def _built(builder: Builder, **settings: Any) -> nn.Module:
    for word in _WEIGHTS:
        if settings.get(word) is not None:
            raise UsageError(f"--set {word}: nothing is downloaded; costs do not depend on weights, which are random.")
    without = {word: None for word in _WEIGHTS if word in inspect.signature(builder).parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it will do differently one day
        return builder(**{**settings, **without})
