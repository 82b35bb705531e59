"""Networks of transformers by model type: `hf:gpt2`, built from the type's default configuration, never downloaded."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial, reduce
from importlib import import_module
from importlib.util import find_spec
from textwrap import shorten
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from attnbench.core.errors import UnsupportedError, UsageError, named
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
# Where a forward asks of its inputs' values whether there are several sequences in a row, or tokens beside padding.
# The answer is no: nothing (None), or what the function says where it is shown no mask.
_NOTHING = (
    ("masking_utils", "find_packed_sequence_indices"),
    ("modeling_utils", "PreTrainedModel.warn_if_padding_and_no_attention_mask"),
)
_WITHOUT_A_MASK = (
    ("masking_utils", "_ignore_causal_mask_sdpa"),
    ("masking_utils", "_ignore_bidirectional_mask_sdpa"),
)
# Some refusals list everything that there is.
_LONGEST_REFUSAL = 300

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
    tokens = min(_limit(_configured(name, {})) or USUAL_TOKENS, USUAL_TOKENS)
    return Target(f"hf:{name}", partial(_of_tokens, name, reads), layout="_".join(["ids"] * len(reads)), tokens=tokens)


def _of_checkpoint(name: str, types: list[str]) -> str:
    """What to write instead of a checkpoint, whose configuration would have to be fetched."""
    plain = name.rpartition("/")[2].lower()
    begins = [each for each in types if plain.startswith(each)]
    if not begins or did_you_mean(name, types):
        return ""
    return f" Nothing is fetched: name the type, hf:{max(begins, key=len)}, and give what differs with --set."


def _reads(name: str) -> tuple[str, ...]:
    """The names of the inputs that the forward is given."""
    config = _configured(name, {})
    network = _class_of(name, type(config))
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


def _class_of(name: str, config: Any) -> Any:
    networks = library("hf").MODEL_MAPPING
    if config not in networks:
        raise UsageError(f"hf:{name} is a configuration without a network of its own (no AutoModel).")
    try:
        found = networks[config]
    except Exception as error:  # its file is loaded now, and may need what is not installed
        raise UsageError(f"hf:{name} does not load: {named(error)}.") from error
    return found[0] if isinstance(found, list | tuple) else found  # the first is the whole body


def _configured(name: str, settings: Settings) -> Any:
    """The configuration with the user's settings in it, from which all that depends on them is derived."""
    known, spelled = _words(name), library("hf").CONFIG_MAPPING[name].attribute_map
    for key in settings:
        if key not in known:
            raise UsageError(f"the configuration of hf:{name} has no {key!r}.{did_you_mean(key, known)}")
    config = _made(name, {spelled.get(key, key): value for key, value in settings.items()})
    for word in _OFF:
        if hasattr(config, word):
            setattr(config, word, False)
    return config


@cache
def _words(name: str) -> frozenset[str]:
    """What can be set of the configuration, under the type's own names and the usual ones."""
    config = _made(name, {})
    return frozenset({*config.to_dict(), *config.attribute_map})


def _made(name: str, settings: Settings) -> Any:
    try:
        return library("hf").CONFIG_MAPPING[name](**settings)
    except Exception as error:  # it checks what it is given, and says so on several lines
        said = shorten(str(error), _LONGEST_REFUSAL, placeholder=" ...")
        raise UnsupportedError(f"hf:{name} refuses its configuration: {said}") from error


def _of_images(name: str, image_size: tuple[int, int], **settings: Any) -> nn.Module:
    how, settings = _apart(settings)
    usual = getattr(_configured(name, {}), "image_size", None)
    if usual is not None:
        square = isinstance(usual, int) and image_size[0] == image_size[1]
        settings = {"image_size": image_size[0] if square else list(image_size)} | settings
    return _called(_built(_configured(name, settings), how), (_IMAGES,))


def _of_tokens(name: str, reads: tuple[str, ...], seq_len: int, **settings: Any) -> nn.Module:
    how, settings = _apart(settings)
    config = _configured(name, settings)
    needed = _positions(config, seq_len)
    if needed > (_limit(config) or needed):
        if {_POSITIONS, config.attribute_map.get(_POSITIONS)} & set(settings):
            raise UnsupportedError(f"hf:{name} has positions for fewer than {seq_len} tokens, as --set says")
        config = _configured(name, {**settings, _POSITIONS: needed})
    return _called(_built(config, how), reads)


def _apart(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `from_config` is told, and what the configuration holds."""
    how = {key: value for key, value in settings.items() if key == _ATTENTION}
    return how, {key: value for key, value in settings.items() if key != _ATTENTION}


def _limit(config: Any) -> int | None:
    """The length of its table of positions; None where there is none, which some write as -1."""
    limit = getattr(config, _POSITIONS, None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _positions(config: Any, tokens: int) -> int:
    """How many positions so many tokens take: those that are counted from the padding's number on take more."""
    padding, limit = getattr(config, "pad_token_id", None) or 0, _limit(config)
    if limit is None or tokens + padding + 1 <= limit:
        return tokens
    with unset_fake_temporarily(), torch.device("meta"):
        network = _built(config, {})
    tables = (each for each in network.modules() if isinstance(each, nn.Embedding) and each.num_embeddings == limit)
    return tokens + max((1 + each.padding_idx for each in tables if each.padding_idx is not None), default=0)


def _built(config: Any, how: Settings) -> nn.Module:
    config.architectures = [_class_of(config.model_type, type(config)).__name__]  # of several it wants one named
    with _silent_and_offline():
        network: nn.Module = library("hf").AutoModel.from_config(config, **how)
    if any(weight.is_meta or isinstance(weight, FakeTensor) for weight in network.parameters()):
        _answer_for_values(network)
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


def _answer_for_values(network: nn.Module) -> None:
    """Answer what its forward asks of values, where it has none, as those of a run would: rows of one sequence each,
    without padding. Else it would build masks that no run builds, or fail."""
    active = ExitStack()

    def begin(*_: Any) -> None:
        for place, name in _found(_NOTHING):
            active.enter_context(mock.patch.object(place, name, lambda *_, **__: None))
        for place, name in _found(_WITHOUT_A_MASK):
            active.enter_context(mock.patch.object(place, name, partial(_of_no_mask, getattr(place, name))))

    network.register_forward_pre_hook(begin)
    network.register_forward_hook(lambda *_: active.close(), always_call=True)


def _found(names: Sequence[tuple[str, str]]) -> Iterator[tuple[Any, str]]:
    """Who owns each of the functions, and its name there; each came with some version of transformers."""
    for module, dotted in names:
        *path, name = dotted.split(".")
        place = reduce(lambda owner, part: getattr(owner, part, None), path, _imported(f"transformers.{module}"))
        if hasattr(place, name):
            yield place, name


def _imported(name: str) -> Any:
    return import_module(name) if find_spec(name) else None


def _of_no_mask(asked: Callable[..., Any], mask: Any, *sizes: Any, **more: Any) -> Any:
    return asked(None, *sizes, **more)


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
