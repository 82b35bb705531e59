"""From the options of a run to the Questions that are asked, and to who is wanted to answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import typer

from attnbench.commands import options as opt
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.engine.executors.executor import Isolation, Wanted
    from attnbench.engine.question import Question
    from attnbench.metrics.metric import Options

__all__ = ["for_these", "planned", "typed_with", "wanted"]

# What stands in the file where there is a suite; the rest can be said beside it.
_OF_SUITES = ("module", "network", "attn", "swap", "at", "res", "img_size", "seq_len", "batch_size", "dim", "heads",
              "mode", "engine", "backend", "layout", "set_")  # fmt: skip


# How a case is measured, where a command has no such option.
_USUAL = {"metrics": None, "precision_target": "1%", "max_time": 2.0, "processes": 1, "keep_samples": False,
          "subtract_idle": False, "mem_limit": None}  # fmt: skip


def typed_with(context: typer.Context) -> dict[str, Any]:
    """All options, and under `given` the names of those that stood on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return {**context.params, "given": given}


def wanted(
    executor: str,
    devices: Sequence[str],
    device: str,
    address: str | None,
    isolate: str,
    no_isolate: bool,
    quiet: bool,
) -> "Wanted":
    """Who is to measure.

    Raises:
        UsageError: the options contradict each other, or one of them is unknown.
    """
    from attnbench.engine.executors.executor import EXECUTORS, Wanted
    from attnbench.engine.executors.local import spelled_out

    EXECUTORS[executor]  # that it is there is known before anything starts
    if devices and device != "auto":
        raise UsageError(f"--devices {','.join(devices)} says where: leave --device {device} away.")
    isolation = _isolation(isolate, no_isolate)
    if isolation == "none" and executor != "local":
        raise UsageError(f"--executor {executor} measures in workers elsewhere: leave --no-isolate away.")
    return Wanted(spelled_out(devices), device, address, isolation, quiet=quiet)


def _isolation(isolate: str, no_isolate: bool) -> "Isolation":
    from attnbench.core.registry import did_you_mean
    from attnbench.engine.executors.executor import Isolation

    known = get_args(Isolation)
    if isolate not in known:
        raise UsageError(f"--isolate {isolate!r} is unknown.{did_you_mean(isolate, known)} Known: {', '.join(known)}.")
    if no_isolate and isolate == "case":
        raise UsageError("--isolate case and --no-isolate contradict each other.")
    return "none" if no_isolate else isolate  # type: ignore[return-value]


def planned(typed: dict[str, Any], who: "Wanted") -> "list[Question]":
    """The Questions for those who are wanted, from options or from a suite, every value checked.

    Raises:
        UsageError: a value is none, or options contradict each other.
    """
    from attnbench.engine.processes import check

    typed = _USUAL | typed
    device = who.devices[0].partition(":")[0] if who.devices else who.device
    questions = _of_suite(typed, device) if typed["suite"] else _of_options(typed, device)
    for options in dict.fromkeys(question.options for question in questions):
        check(options, isolate=who.isolation != "none")
    return questions


def for_these(who: "Wanted", questions: "Sequence[Question]") -> "Wanted":
    """Who is to measure, and what; where a suite says the device, on that."""
    from attnbench.engine.session import device_of, targets_of

    cases = [question.case for question in questions]
    return replace(who, device=device_of(cases), targets=targets_of(cases))


def _of_options(typed: Mapping[str, Any], device: str) -> "list[Question]":
    from attnbench.engine.question import Question
    from attnbench.engine.sweep import Sweep

    def listed(name: str, *default: str) -> list[str]:
        return opt.listed(typed[name]) or list(default)

    sweep = Sweep(
        modules=listed("module"), networks=listed("network"), attn=listed("attn"), swap=listed("swap"),
        at=listed("at"), res=listed("res"), img_size=listed("img_size"), seq_len=listed("seq_len"),
        batch_size=listed("batch_size", "1"), dim=listed("dim"), heads=listed("heads"), dtype=listed("dtype", "fp32"),
        mode=listed("mode", "fwd"), engine=listed("engine", "eager"), backend=listed("backend"),
        layout=typed["layout"], device=device, settings=typed["set_"] or [], seed=typed["seed"],
    )  # fmt: skip
    cases = sweep.at_first_batch().cases()
    options = replace(_options(typed), best_batch=sweep.seeks_batch)
    return [Question(case, options) for case in cases]


def _options(typed: Mapping[str, Any]) -> "Options":
    options = opt.measuring(opt.listed(typed["metrics"]), typed["precision_target"], typed["max_time"],
                            typed["timeout"], typed["threads"])  # fmt: skip
    return replace(options, processes=typed["processes"], keep_samples=typed["keep_samples"],
                   subtract_idle=typed["subtract_idle"], mem_limit=_limit(typed))  # fmt: skip


def _limit(typed: Mapping[str, Any]) -> int | None:
    from attnbench.core.units import parse_bytes

    limit = None if typed["mem_limit"] is None else parse_bytes(typed["mem_limit"])
    if limit is not None and limit <= 0:
        raise UsageError(f"--mem-limit {typed['mem_limit']} is out of range: give more than 0 B.")
    return limit


def _of_suite(typed: Mapping[str, Any], device: str) -> "list[Question]":
    """The questions of the suite; what was given beside it wins, as far as it is about how, and not about what."""
    from attnbench.engine.suite import GIVEN, load_suite

    given = typed["given"]
    beside = [name for name in _OF_SUITES if name in given]
    if beside:
        option = "--" + beside[0].rstrip("_").replace("_", "-")
        raise UsageError(f"{option} and --suite exclude each other: what is measured stands in the suite's file.")
    _options(typed)  # every value is checked, given or not
    beside_it = {name: typed[name] for name in (each.replace("-", "_") for each in GIVEN) if name in given}
    beside_it |= {name: opt.listed(beside_it[name]) for name in ("metrics", "dtype") if name in beside_it}
    if device != "auto":
        beside_it["device"] = device
    questions = load_suite(typed["suite"]).questions(beside_it)
    limit = _limit(typed)
    return [replace(each, options=replace(each.options, mem_limit=limit)) for each in questions]
