"""Fills a constructor's arguments from the shape by their common spellings, and from the user's own settings."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from torch import nn

from attnbench.core.case import Scalar
from attnbench.core.errors import AttnbenchError, UnsupportedError, UsageError, named
from attnbench.core.registry import did_you_mean
from attnbench.targets.layouts import Shape

__all__ = ["construct", "default_heads", "is_heads", "variants"]

# The spellings that people use, lower-cased, by what they mean.
_SPELLINGS = {
    "dim": """dim in_dim input_dim dim_in channels channel in_channels in_channel in_planes inplanes planes
        in_features embed_dim embedding_dim d_model model_dim hidden_size hidden_dim n_embd embed_size emb_dim
        num_features n_feats nf c ch in_ch num_channels feature_dim features chan in_chans dims n_channels c_in
        d emb_size""",
    "out": "out_dim dim_out output_dim out_channels out_channel out_planes out_features out_ch c_out",
    "heads": "heads num_heads n_head n_heads nhead num_head head_count num_attention_heads nheads head",
    "head_dim": "head_dim dim_head d_head d_k d_v key_dim head_size dim_per_head head_channels qk_dim v_dim",
    "tokens": """n seq_len seq_length sequence_length num_tokens n_tokens tokens max_seq_len max_len max_length length
        num_patches n_patches n_positions max_position_embeddings context_length block_size ctx_len seqlen
        max_seqlen""",
    "height": "h height img_h map_h",
    "width": "w width img_w map_w",
    "sides": """input_resolution resolution img_size image_size size input_size fmap_size feature_size feat_size
        map_size spatial_size feature_map_size hw res""",
}
_MEANING = {spelling: meaning for meaning, spellings in _SPELLINGS.items() for spelling in spellings.split()}


def default_heads(dim: int) -> int:
    """As many heads as leave each at least 64 channels and divide the channels evenly; at least one."""
    return max((heads for heads in range(1, max(1, dim // 64) + 1) if dim % heads == 0), default=1)


def is_heads(parameter: str, beside: Collection[str] = ()) -> bool:
    """Whether a constructor's parameter of that name, beside those others, is the number of heads."""
    return _meaning(parameter, beside) == "heads"


def _meaning(parameter: str, beside: Collection[str]) -> str | None:
    """What a parameter of that name stands for: `h` is the height beside a `w`, and the heads without one, or beside
    an `H`."""
    if parameter == "h" and ("H" in beside or not {"w", "W", "width"} & set(beside)):
        return "heads"
    return _MEANING.get(parameter.lower())


def variants(
    name: str, factory: Callable[..., nn.Module], shape: Shape, settings: Mapping[str, Scalar], heads_given: bool
) -> Iterator[dict[str, Any]]:
    """The keyword arguments to try, best first: a square's sides may be wanted as (H, W) or as one integer.

    Raises:
        UsageError: a required argument is none of the known spellings, or a setting is not a parameter.
    """
    parameters = _parameters(factory)
    _check_settings(name, parameters, settings)
    arguments: dict[str, Any] = {}
    missing = []
    for parameter in parameters:
        required = parameter.default is parameter.empty
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in settings:
            continue
        meaning = _meaning(parameter.name, [each.name for each in parameters])
        value = _from_shape(meaning, shape, required, heads_given)
        if value is not None:
            arguments[parameter.name] = value
        elif required:
            missing.append(parameter.name)
    if missing:
        wanted = ", ".join(map(repr, missing))
        raise UsageError(f"{name} needs {wanted}, which the shape does not tell: add --set {missing[0]}=VALUE.")
    sides = {key: value[0] for key, value in arguments.items() if isinstance(value, tuple) and value[0] == value[1]}
    whole = {p.name for p in parameters if p.annotation in (int, "int")}
    tries = [{**arguments, **settings}, {**arguments, **sides, **settings}]
    yield from reversed(tries) if whole & set(sides) else tries


def _parameters(factory: Callable[..., nn.Module]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return []


def _check_settings(name: str, parameters: list[inspect.Parameter], settings: Mapping[str, Scalar]) -> None:
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL]
    for key in settings:
        if key not in known:
            takes = ", ".join(known) or "no arguments"
            raise UsageError(f"{name} has no parameter {key!r}.{did_you_mean(key, known)} It takes: {takes}.")


def _from_shape(meaning: str | None, shape: Shape, required: bool, heads_given: bool) -> Any:
    """The value for a parameter of that meaning, or None to leave it alone.

    What must agree with the input (channels, tokens, sides) is filled in even where it has a default; heads only when
    the user named a number or the constructor asks for one; widths of heads and outputs only when it asks.
    """
    match meaning:
        case "dim":
            return shape.dim
        case "tokens":
            return shape.tokens
        case "heads" if required or heads_given:
            return shape.heads
        case "head_dim" if required:
            return shape.dim // shape.heads
        case "out" if required:
            return shape.dim
        case "height" | "width" | "sides" as side if required or shape.height is not None:
            return {"height": shape.map[0], "width": shape.map[1], "sides": shape.map}[side]
    return None


def construct(
    name: str, factory: Callable[..., nn.Module], shape: Shape, settings: Mapping[str, Scalar], heads_given: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """The module, and the arguments it was built with: the first variant that its constructor takes.

    Raises:
        UsageError: as `variants`; or what the constructor gives is no torch.nn.Module.
        UnsupportedError: it refuses each variant; the message carries its own words on the first.
    """
    refusal: UnsupportedError | None = None
    for arguments in variants(name, factory, shape, settings, heads_given):
        try:
            return _call(name, factory, arguments), arguments
        except UnsupportedError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _call(name: str, factory: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    try:
        module = factory(**arguments)
    except (MemoryError, AttnbenchError):
        raise
    except Exception as error:  # foreign code may refuse in any way
        call = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise UnsupportedError(f"{name}({call}) refuses: {named(error)}") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"{name} gives a {type(module).__name__}, not a torch.nn.Module.")
    return module
