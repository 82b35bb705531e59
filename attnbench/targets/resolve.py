"""From a Case as it was typed to one that can be built: its layout found, its heads said, its shape tried."""

import re

import torch
from torch import nn

from attnbench.core.case import Case
from attnbench.core.errors import CaseError, UnsupportedError, UsageError, first_line
from attnbench.metrics.subject import Subject
from attnbench.targets.batch_norm import sees_one_value
from attnbench.targets.build import build, settings_of, shape_of
from attnbench.targets.construct import is_heads, variants
from attnbench.targets.detect import detect
from attnbench.targets.fake import NEEDS_VALUES, fake_tensors
from attnbench.targets.layouts import TOKEN_NUMBERS
from attnbench.targets.sources import Target, locate

__all__ = ["resolve"]

_FEW_TOKENS = 1024
# How a table of positions is called in a network: wpe, position_embeddings, embed_positions, pos_emb.
_OF_POSITIONS = re.compile(r"(?<![a-z])(w?pos|wpe)")
# Of a network's image, where nobody asked for one.
_USUAL_SIDE = 224


def resolve(case: Case) -> Case:
    """The Case with its layout found and its heads said, after one build and one forward on the meta device.

    Raises:
        UsageError: the target is not there, or an argument cannot be filled in.
        UnsupportedError: it can be built, but not run, at this shape.
    """
    target, heads_given = locate(case.target), case.heads is not None
    case = _with_heads(case, target)
    if case.kind == "network":
        case = _network_read(case, target)
    elif target.spec is not None:
        if case.layout not in ("auto", target.spec.layout):
            raise UnsupportedError(f"{target.name} reads {target.spec.layout}, not {case.layout}")
        case = case.with_(layout=target.spec.layout)
    elif target.layout is not None and case.layout == "auto":
        case = case.with_(layout=target.layout)
    elif case.layout == "auto":
        case = case.with_(layout=detect(target, shape_of(case), settings_of(case, inserted=False), heads_given))
    _try(case)
    return case


def _network_read(case: Case, target: Target) -> Case:
    """What the network reads, and how large: what a library's is, else images unless a number of tokens is asked for.

    Raises:
        UsageError: the size is one of the other kind.
    """
    plain = case.tokens is not None and case.height is None
    layout = target.layout or ("ids" if plain and target.spec is None else "bchw")
    reads_tokens = layout in TOKEN_NUMBERS
    if case.height is None and case.tokens is None:
        size = {"tokens": target.tokens} if reads_tokens else dict.fromkeys(("height", "width"), _USUAL_SIDE)
        return case.with_(layout=layout, **size)
    if plain != reads_tokens:
        what, wanted = ("tokens", "--seq-len") if reads_tokens else ("images", "--img-size")
        given = "--seq-len" if plain else "--img-size"
        raise UsageError(f"{case.target} reads {what}: give {wanted} instead of {given}.")
    return case.with_(layout=layout)


def _with_heads(case: Case, target: Target) -> Case:
    """Say the number of heads where the constructor is given one, and only there."""
    if case.kind == "network":
        return case
    settings = settings_of(case, inserted=False)
    arguments = next(variants(target.name, target.factory, shape_of(case), settings, case.heads is not None))
    return case.with_(heads=next((value for name, value in arguments.items() if is_heads(name, arguments)), None))


def _try(case: Case) -> None:
    """One forward without data: a shape that the module refuses is found before anything is measured.

    The meta device comes first, since it is fast; fake tensors forgive more (a constant on the CPU). What neither can
    run is tried with data, at a small size: a constructor, or a forward, may need them.
    """
    try:
        subject = build(case, "meta")
        subject.forward()
    except UsageError:
        raise
    except Exception:  # foreign code; the next tries tell whether this matters
        pass
    else:
        _within_positions(subject)
        return
    try:
        with fake_tensors():
            build(case, "fake").forward()
    except NEEDS_VALUES:
        return
    except Exception as error:
        # What refuses the mode alone is no wrong question: measuring it says so, in a row of its own.
        if not sees_one_value(error) and not _runs_with_data(case):
            raise _refusal(case, error) from error


def _within_positions(subject: Subject) -> None:
    """Refuse more tokens than a table of positions has rows: without data a look-up beyond its end goes unnoticed."""
    case = subject.case
    if case.layout not in TOKEN_NUMBERS:
        return
    for name, table in subject.module.named_modules():
        is_of_positions = _OF_POSITIONS.search(name) is not None and "rel" not in name
        if isinstance(table, nn.Embedding) and is_of_positions and table.num_embeddings < (case.tokens or 0):
            most = table.num_embeddings
            raise UnsupportedError(f"{case.name} has {most} positions ({name}): give --seq-len {most} or less")


def _refusal(case: Case, error: Exception) -> CaseError:
    if isinstance(error, CaseError):  # the constructor's, which names itself
        return error
    side = locate(case.target).side
    own = f" (its library made it for {side}x{side})" if side not in (None, case.height) else ""
    return UnsupportedError(f"{case.name} does not run at {case.size}{own}: {first_line(error)}")


def _runs_with_data(case: Case) -> bool:
    """Whether it is data that it lacks: then a small one lacks them too, and runs with them."""
    if case.kind == "network":
        return False  # a whole one is too much for a try
    small = _small(case)
    return not _runs(small, "meta") and (_runs(small, "cpu") or _runs_on_its_gpu(small))


def _runs_on_its_gpu(case: Case) -> bool:
    """Kernels may be written for a GPU alone."""
    return case.device.startswith("cuda") and torch.cuda.is_available() and _runs(case, case.device)


def _runs(case: Case, where: str) -> bool:
    try:
        build(case, where).forward()
    except Exception:  # foreign code
        return False
    return True


def _small(case: Case) -> Case:
    """The Case with one sample, and with sides halved until it is a matter of milliseconds."""
    case = case.with_(batch_size=1)
    while (case.tokens or 1) > _FEW_TOKENS:
        if case.height is None or case.width is None:
            case = case.with_(tokens=(case.tokens or 1) // 2)
        else:
            height, width = max(1, case.height // 2), max(1, case.width // 2)
            case = case.with_(height=height, width=width, tokens=height * width)
    return case
