"""Puts an attention into a network: which places it offers, of what shape, and how it is initialised there."""

from typing import Any

import torch
from torch import Tensor, nn

from attnbench.core.errors import UnsupportedError

__all__ = ["Site", "initialise", "insert", "site_shapes"]

# A place in a network: the parent module and the name of the child that the attention is put behind.
Site = tuple[nn.Module, str]


def _sites(network: nn.Module) -> list[Site]:
    offered = getattr(network, "attention_sites", None)
    if not callable(offered):
        raise UnsupportedError(f"{type(network).__name__} names no places for an attention (attention_sites)")
    return list(offered())


def site_shapes(network: nn.Module, image: Tensor) -> list[tuple[int, int, int]]:
    """Channels, height and width at each site, seen in one forward of the image (on the meta device: for free)."""
    shapes: list[tuple[int, int, int]] = []

    def see(module: nn.Module, inputs: Any, output: Tensor) -> None:
        shapes.append((output.shape[1], output.shape[2], output.shape[3]))

    hooks = [parent.get_submodule(name).register_forward_hook(see) for parent, name in _sites(network)]
    with torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    return shapes


def insert(network: nn.Module, attentions: list[nn.Module]) -> None:
    """Put one attention behind each site, in the order of the sites."""
    for (parent, name), attention in zip(_sites(network), attentions, strict=True):
        initialise(attention)
        setattr(parent, name, nn.Sequential(parent.get_submodule(name), attention))


def initialise(attention: nn.Module) -> None:
    """Kaiming initialisation (He et al. 2015) of the linear layers, as VGG's own layers have; biases are zero."""
    for module in attention.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
