"""Networks of timm by name: `timm:vit_tiny_patch16_224`, with random weights, built for the image they are to read."""

import warnings
from functools import cache
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from attnbench.core.errors import UsageError
from attnbench.targets.providers import library, unknown
from attnbench.targets.sources import Target

__all__ = ["target"]

_ANY_SIZE = (224, 224)


@cache
def target(name: str) -> Target:
    """The network of that name, or of that name and tag, as timm's `create_model` takes it.

    Raises:
        UsageError: timm has none.
    """
    timm = library("timm")
    if not timm.is_model(name):
        raise unknown("timm", name, timm.list_models())

    def sized(img_size: tuple[int, int], **settings: Any) -> nn.Module:
        return _created(name, img_size=img_size, **settings)

    def plain(**settings: Any) -> nn.Module:
        return _created(name, **settings)

    own = timm.get_pretrained_cfg(name)
    side = None if own is None else own.input_size[-1]
    return Target(f"timm:{name}", sized if _takes_a_size(name) else plain, layout="bchw", side=side)


def _created(name: str, **settings: Any) -> nn.Module:
    if settings.get("pretrained"):
        raise UsageError("--set pretrained: nothing is downloaded; costs do not depend on weights, which are random.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old name is answered with a warning, and with the network
        network: nn.Module = library("timm").create_model(name, **settings)
    return network


def _takes_a_size(name: str) -> bool:
    """Whether its constructor wants the image's size: what is convolutional throughout does not know the word."""
    try:
        with unset_fake_temporarily(), torch.device("meta"):
            _created(name, img_size=_ANY_SIZE)
    except TypeError as error:
        return "img_size" not in str(error)
    except Exception:  # it knows the word, and refuses this size
        return True
    return True
