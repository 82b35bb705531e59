"""Networks of transformers by model type: `hf:gpt2`, built from the type's default configuration, never downloaded."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from attnbench.core.errors import UnsupportedError, UsageError
from attnbench.core.registry import did_you_mean
from attnbench.targets.providers import library, unknown
from attnbench.targets.sources import USUAL_TOKENS, Target

__all__ = ["target"]

# What `from_config` is told, and not the configuration.
_ATTENTION = "attn_implementation"
# What would keep keys and values for a next step that never comes, or fetch weights.
_OFF = ("use_cache", "use_pretrained_backbone")
# Parts of a configuration, each a network for inputs of its own.
_PARTS = ("vision_config", "audio_config", "text_config", "speech_config")
_IMAGES, _TOKENS = "pixel_values", "input_ids"
_OTHER_INPUTS = {_IMAGES, "input_values", "input_features"}
_POSITIONS = "max_position_embeddings"

Settings = Mapping[str, Any]


@cache
def target(name: str) -> Target:
    """The body (`AutoModel`: no head for a task) of that model type at its default configuration.

    It reads token numbers (layout `ids`, or `ids_ids` where a decoder reads some of its own) or images (`bchw`).

    Raises:
        UsageError: transformers has no such type, or it reads something else.
    """
    types = list(library("hf").CONFIG_MAPPING)
    if name not in types:
        raise unknown("hf", name, types, _of_checkpoint(name, types))
    reads = _reads(name)
    if reads == (_IMAGES,):
        return Target(f"hf:{name}", partial(_of_images, name), layout="bchw")
    limit = getattr(_configured(name, {}), _POSITIONS, None) or USUAL_TOKENS
    make = partial(_of_tokens, name, reads)
    return Target(f"hf:{name}", make, layout="_".join(["ids"] * len(reads)), tokens=min(limit, USUAL_TOKENS))


def _of_checkpoint(name: str, types: list[str]) -> str:
    """What to write instead of a checkpoint, whose configuration would have to be fetched."""
    plain = name.rpartition("/")[2].lower()
    begins = [each for each in types if plain.startswith(each)]
    if not begins or did_you_mean(name, types):
        return ""
    return f" Nothing is fetched: name the type, hf:{max(begins, key=len)}, and give what differs with --set."


def _reads(name: str) -> tuple[str, ...]:
    """The names of the inputs that the forward is given."""
    network, config = _class_of(name), _configured(name, {})
    words = set(inspect.signature(network.forward).parameters)
    main = network.main_input_name
    if sum(getattr(config, part, None) is not None for part in _PARTS) > 1 or (_TOKENS in words and _IMAGES in words):
        raise UsageError(f"hf:{name} reads several kinds of input: attnbench runs networks of tokens or of images.")
    if main == _IMAGES and main in words:
        return (main,)
    if main == _TOKENS and main in words and not words & _OTHER_INPUTS:
        decodes = config.is_encoder_decoder and "decoder_input_ids" in words
        return (main, "decoder_input_ids") if decodes else (main,)
    raise UsageError(f"hf:{name} reads neither tokens nor images, which are what attnbench can give it.")


def _class_of(name: str) -> Any:
    transformers = library("hf")
    config = transformers.CONFIG_MAPPING[name]
    if config not in transformers.MODEL_MAPPING:
        raise UsageError(f"hf:{name} is a configuration without a network of its own (no AutoModel).")
    found = transformers.MODEL_MAPPING[config]
    return found[0] if isinstance(found, list | tuple) else found


def _configured(name: str, settings: Settings) -> Any:
    """The configuration with the user's settings in it, from which all that depends on them is derived."""
    make = library("hf").CONFIG_MAPPING[name]
    spelled = make.attribute_map
    known = {*make().to_dict(), *spelled}
    for key in settings:
        if key not in known:
            raise UsageError(f"the configuration of hf:{name} has no {key!r}.{did_you_mean(key, known)}")
    try:
        config = make(**{spelled.get(key, key): value for key, value in settings.items()})
    except Exception as error:  # it checks what it is given, and says so on several lines
        raise UnsupportedError(f"hf:{name} refuses its configuration: {' '.join(str(error).split())}") from error
    for word in _OFF:
        if hasattr(config, word):
            setattr(config, word, False)
    return config


def _of_images(name: str, image_size: int | tuple[int, int], **settings: Any) -> nn.Module:
    how, settings = _apart(settings)
    if isinstance(image_size, tuple):
        image_size = image_size[0] if image_size[0] == image_size[1] else image_size
    if hasattr(_configured(name, {}), "image_size"):
        settings = {"image_size": image_size} | settings
    return _called(_built(_configured(name, settings), how), (_IMAGES,))


def _of_tokens(name: str, reads: tuple[str, ...], seq_len: int, **settings: Any) -> nn.Module:
    how, settings = _apart(settings)
    config = _configured(name, settings)
    needed = _positions(config, seq_len)
    if needed > (getattr(config, _POSITIONS, None) or needed):
        if {_POSITIONS, config.attribute_map.get(_POSITIONS)} & set(settings):
            raise UnsupportedError(f"hf:{name} has positions for fewer than {seq_len} tokens, as --set says")
        config = _configured(name, {**settings, _POSITIONS: needed})
    return _called(_built(config, how), reads)


def _apart(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `from_config` is told, and what the configuration holds."""
    how = {key: value for key, value in settings.items() if key == _ATTENTION}
    return how, {key: value for key, value in settings.items() if key != _ATTENTION}


def _positions(config: Any, tokens: int) -> int:
    """How many positions so many tokens take: those that are counted from the padding's number on take more."""
    padding, limit = getattr(config, "pad_token_id", None) or 0, getattr(config, _POSITIONS, None)
    if limit is None or tokens + padding + 1 <= limit:
        return tokens
    with unset_fake_temporarily(), torch.device("meta"):
        network = _built(config, {})
    tables = (each for each in network.modules() if isinstance(each, nn.Embedding) and each.num_embeddings == limit)
    return tokens + max((1 + each.padding_idx for each in tables if each.padding_idx is not None), default=0)


def _built(config: Any, how: Settings) -> nn.Module:
    with _silent_and_offline():
        network: nn.Module = library("hf").AutoModel.from_config(config, **how)
    return network


@contextmanager
def _silent_and_offline() -> Iterator[None]:
    """Whatever asks for a file from the hub is refused, and a default configuration's oddities are not spoken of."""
    transformers, hub = library("hf"), "huggingface_hub.constants.HF_HUB_OFFLINE"
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    try:
        with mock.patch(hub, True):
            yield
    finally:
        transformers.logging.set_verbosity(level)


class _Called(nn.Module):
    """A network whose inputs are not its forward's first arguments: it is given them by name."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(**dict(zip(self.names, inputs, strict=True)))


def _called(network: nn.Module, reads: tuple[str, ...]) -> nn.Module:
    first = next(iter(inspect.signature(network.forward).parameters))
    return network if reads == (first,) else _Called(network, reads)
