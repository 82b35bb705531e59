"""One Case, measured: counted without running first, so that a row that runs out of memory still has its figures."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import torch

from attnbench.core.case import Case
from attnbench.core.errors import IncorrectError, OutOfMemoryError, UnsupportedError, named
from attnbench.core.record import SECTIONS, Note, Reading
from attnbench.core.units import human_bytes
from attnbench.engine.extrapolate import extrapolated, is_small
from attnbench.engine.memory_cap import within_limit
from attnbench.engine.room import room
from attnbench.metrics.hardware import flags, free_bytes, release_memory
from attnbench.metrics.metric import Declared, Finding, Options, chosen, known
from attnbench.metrics.subject import Subject, tensors_in
from attnbench.targets.backend import attention_backend, first_step
from attnbench.targets.batch_norm import one_value_explained, sees_one_value
from attnbench.targets.build import build
from attnbench.targets.engines import engine_of
from attnbench.targets.fake import fake_tensors

__all__ = ["measure", "ready"]


def measure(case: Case, options: Options) -> Iterator[Finding]:
    """Readings and notes of a resolved Case, each as soon as it is known.

    Raises:
        CaseError: the case does not fit, does not run, or gives something that is not a number; what was yielded
            before holds all the same.
    """
    readings: dict[str, Any] = {}
    with one_value_explained(case):
        for finding in _measure(case, options, readings):
            if isinstance(finding, Reading):
                readings[finding.name] = finding.value
            yield finding


def _measure(case: Case, options: Options, readings: Mapping[str, Any]) -> Iterator[Finding]:
    """The findings; those that were taken stand in `readings` before the next is asked for."""
    wanted = _with_prediction(chosen(options.metrics))
    yield _not_measured(wanted)
    uncountable = yield from _without_data(case, wanted, options)
    with attention_backend(case.backend):
        yield from _with_memory(case, wanted, uncountable, options, readings)


def _with_memory(
    case: Case,
    wanted: Sequence[Declared],
    uncountable: Sequence[Declared],
    options: Options,
    readings: Mapping[str, Any],
) -> Iterator[Finding]:
    """What depends on the kernels that run: the predicted memory, then all that is measured on the device."""
    yield from _predicted(case, wanted, options)
    live = [each for each in wanted if each.live]
    if options.dry and uncountable:
        fields = ", ".join(field for each in uncountable for field in each.fields)
        yield Note("not_measured", f"{fields}: only a step on {case.device} itself would tell")
    elif live or uncountable:
        release_memory()  # not before the counting, which needs none and takes less time than this
        _guard(case, readings.get("static.predicted_peak_bytes"), options.mem_limit)
        with within_limit(case.device, options.mem_limit):
            subject = ready(case)
        subject.readings = readings
        yield from subject.notes
        for each in uncountable:
            yield from each.load()(subject, options)
        yield from _live(subject, live, options)


def _with_prediction(wanted: list[Declared]) -> list[Declared]:
    """What is to run on the device is predicted first, asked for or not: the guard needs it."""
    live = any(each.live for each in wanted)
    return [each for each in known().values() if each in wanted or (live and each.on == "fake")]


def _without_data(case: Case, wanted: Sequence[Declared], options: Options) -> Generator[Finding, None, list[Declared]]:
    """Count on the meta device, or on small real tensors; instruments that neither serves are left for the device."""
    counters = [each for each in wanted if each.on == "meta"]
    alone = not any(each.live for each in wanted)  # then nobody else will tell how it was built
    if not counters:
        return []
    try:
        subject = build(case, "meta")
        subject.forward()
    except Exception as error:  # foreign code: what meta cannot run, the device may
        if sees_one_value(error):
            raise  # nor can the device
        yield Note("counted_live", f"{case.name} cannot run without data ({named(error)}): it is counted with")
        return (yield from _with_data(case, counters, options, alone))
    if alone:
        yield from subject.notes
    for each in counters:
        yield from each.load()(subject, options)
    yield Reading("static.counted_on", "meta")
    return []


def _with_data(
    case: Case, counters: list[Declared], options: Options, alone: bool
) -> Generator[Finding, None, list[Declared]]:
    """Count on the CPU: a small Case as it is, a large one from small sizes; what cannot run there is returned."""

    def count(small: Case) -> list[Finding]:
        _guard(small.with_(device="cpu"), None, options.mem_limit)
        subject = build(small.with_(device="cpu"), "cpu")
        subject.forward()  # an instrument survives what the module raises; here it must be known
        notes = subject.notes if alone else ()
        return [*notes, *(finding for each in counters for finding in each.load()(subject, options))]

    ran = True
    if is_small(case):
        try:
            yield from count(case)
            yield Reading("static.counted_on", "device")
        except Exception:  # it may need a GPU, or be broken: the device tells
            ran = False
    else:
        ran = yield from extrapolated(case, count)
    if not ran:
        yield Reading("static.counted_on", "device")
    return [] if ran else counters


def _predicted(case: Case, wanted: Sequence[Declared], options: Options) -> Iterator[Finding]:
    """Peak memory before anything is allocated."""
    for each in (each for each in wanted if each.on == "fake"):
        try:
            with fake_tensors():
                findings = list(each.load()(build(case, "fake"), options))
            yield from findings
        except Exception as error:  # foreign code that looks at values cannot run on fake tensors
            yield Note("not_measured", f"{', '.join(each.fields)}: cannot run on fake tensors ({named(error)})")


def _guard(case: Case, predicted: int | None, limit: int | None) -> None:
    """Refuse what is allowed to nobody, and on the host what would make it swap or wake its out-of-memory killer.

    A GPU refuses an allocation and nothing else suffers: what does not fit beside other programs is tried there, and
    only what is more than the whole of it is not. What could not be predicted needs its weights at least.
    """
    needed = _bytes_of_weights(case) if predicted is None else predicted
    need = f"not started: it needs {human_bytes(needed)} and"
    if limit is not None and needed > limit:
        raise OutOfMemoryError(f"{need} --mem-limit allows {human_bytes(limit)}")
    if not case.device.startswith("cuda"):
        free = free_bytes(case.device)
        if free is not None and needed > (room(case.device, free) or 0):
            raise OutOfMemoryError(f"{need} {human_bytes(free)} are free")
    elif torch.cuda.is_available() and needed > (total := torch.cuda.mem_get_info(case.device)[1]):
        raise OutOfMemoryError(f"{need} {case.device} has {human_bytes(total)} in all")


def _bytes_of_weights(case: Case) -> int:
    """As it is built without data; 0 where it cannot be."""
    try:
        return sum(weight.nbytes for weight in build(case, "meta").weights)
    except Exception:  # a constructor is foreign code
        return 0


def ready(case: Case) -> Subject:
    """The Subject of a resolved Case on its device, after one step that was looked at.

    Raises:
        CaseError: it does not fit, or gives something that is not a number.
    """
    if case.device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UnsupportedError(f"{case.name} cannot be counted without data, and {case.device} is not here")
        torch.cuda.set_device(int(case.device.partition(":")[2] or 0))  # what follows speaks of the current device
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.dtype == "tf32"
    subject = build(case, case.device)
    for tensor in tensors_in(first_step(subject)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IncorrectError("its output holds NaN or infinity: the time of such a step says nothing")
    subject.synchronize()
    return subject


def _live(subject: Subject, live: Sequence[Declared], options: Options) -> Iterator[Finding]:
    """What the instruments on the device find, the steps run by the case's engine."""
    if not live:
        return
    yield Reading("env.flags", flags())  # as the case's dtype set them
    with engine_of(subject.case.engine) as engine:
        yield from engine.prepared(subject)
        for each in live:
            yield from each.load()(subject, options)
        yield from engine.finished()


def _not_measured(wanted: Sequence[Declared]) -> Note:
    """Which fields of the record will stay null because nobody was asked to measure them."""
    covered = {field for each in wanted for field in each.fields}
    # Who gives a whole section gives no field of it that another instrument names as its own.
    others = {field for each in known().values() if each not in wanted for field in each.fields}
    missing: list[str] = []
    for section, fields in SECTIONS.items():
        given = {name for name in fields if section in covered and f"{section}.{name}" not in others}
        left = [name for name in fields if name not in given and f"{section}.{name}" not in covered]
        missing += [section] if left == list(fields) else [f"{section}.{name}" for name in left]
    missing += [] if "kernels" in covered else ["kernels"]
    return Note("not_measured", f"not asked for, or no instrument: {', '.join(missing)}")
