"""`attnbench audit`: what targets claim to cost in the number of tokens, against what is counted and measured."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.commands import options as opt
from attnbench.commands.terminal import CANNOT_JUDGE, new_console
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.core.case import Case
    from attnbench.core.order import Order
    from attnbench.core.record import Record
    from attnbench.engine.workers.channels import Channel
    from attnbench.metrics.metric import Options
    from attnbench.report.audit import Audit
    from attnbench.report.timed_growth import Measured

__all__ = ["audit"]

_REFUTED = 1
_FORMATS = ("table", "md", "json")

Claim = Annotated[str | None, typer.Option(help="In place of its own: O(N), O(N log N), O(N^1.5), O(N^2), O(1).")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 on a refuted claim, 3 if one cannot be judged.")]
Measure = Annotated[bool, typer.Option("--measure", help="Also the exponent of the latency in N, by running it.")]
MaxTime = Annotated[float, typer.Option(help="With --measure: seconds of sampling a size.")]
Format = Annotated[str, typer.Option("--format", help="On standard output: table, md, json.")]


def audit(
    target: opt.Targets = None,
    module: opt.Module = None,
    network: opt.Network = None,
    attn: opt.Attn = None,
    swap: opt.Swap = None,
    at: opt.At = None,
    claim: Claim = None,
    strict: Strict = False,
    measure: Measure = False,
    batch_size: opt.BatchSize = None,
    dim: opt.Dim = None,
    heads: opt.Heads = None,
    dtype: opt.Dtype = None,
    device: opt.Device = "auto",
    mode: opt.Mode = None,
    layout: opt.Layout = "auto",
    set_: opt.Set = None,
    max_time: MaxTime = 0.5,
    timeout: opt.Timeout = 600.0,
    threads: opt.Threads = None,
    isolate: opt.Isolate = True,
    seed: opt.Seed = 0,
    format_: Format = "table",
    quiet: opt.Quiet = False,
) -> int:
    """Is it linear? Claimed against counted cost in the tokens N.

    A verdict for each TARGET; without one, for every module there is.
    """
    from attnbench.core.order import parse_order
    from attnbench.engine.sweep import Sweep
    from attnbench.engine.workers.channels import InlineChannel, WorkerChannel

    if format_ not in _FORMATS:
        raise UsageError(f"unknown format {format_!r}. Known: {', '.join(_FORMATS)}.")
    claimed = None if claim is None else parse_order(claim)
    modules, networks = opt.by_kind(opt.listed(target))
    modules, networks = [*modules, *opt.listed(module)], [*networks, *opt.listed(network)]
    sweep = Sweep(
        modules=modules if modules or networks else _every_module(), networks=networks, attn=opt.listed(attn),
        swap=opt.listed(swap), at=opt.listed(at),
        batch_size=opt.listed(batch_size) or ["1"], dim=opt.listed(dim), heads=opt.listed(heads),
        dtype=opt.listed(dtype) or ["fp32"], mode=opt.listed(mode) or ["fwd"], layout=layout, device=device,
        settings=set_ or [], seed=seed,
    )  # fmt: skip
    cases = sweep.cases()
    timing = opt.measuring(["latency" if measure else "static"], "1%", max_time, timeout, threads)
    channel = WorkerChannel(quiet=quiet) if isolate else InlineChannel()
    try:
        audits, records = _audits(cases, claimed, channel, timing, timeout, measure=measure, quiet=quiet)
    finally:
        channel.close()
    _print(audits, records, format_)
    return _code(audits) if strict else 0


def _every_module() -> list[str]:
    from attnbench.targets.catalogue import offered

    return [spec.name for spec in offered() if spec.kind == "module"]


def _audits(
    cases: "Sequence[Case]",
    claim: "Order | None",
    channel: "Channel",
    timing: "Options",
    timeout: float,
    *,
    measure: bool,
    quiet: bool,
) -> "tuple[list[Audit], list[Record]]":
    """The verdict on each Case, and the first record of each: what they share stands above the table."""
    from rich.console import Console

    from attnbench.engine.asking import on_device
    from attnbench.engine.ladder import SIDES, rooted
    from attnbench.report.audit import audit as judged
    from attnbench.report.facts import varying_facts

    climbs = []
    with Console(stderr=True, quiet=quiet).status("loading torch") as status:
        for case in on_device(cases, channel, timing):
            status.update(f"counting {case.name}".replace("[", "\\["))
            root = rooted(case, channel, SIDES, timeout)
            records = list(_static(root, channel, timeout))
            latency = None
            if measure:
                status.update(f"timing {case.name}".replace("[", "\\["))
                latency = _timed(root, channel, timing, timeout)
            climbs.append((records, latency))
    firsts = [records[0] for records, _ in climbs]
    facts = varying_facts(firsts)
    return [judged(records, claim, latency, facts) for records, latency in climbs], firsts


def _static(root: "Case", channel: "Channel", timeout: float) -> "Iterator[Record]":
    """Records without running: at more sides where these prove nothing, at small ones where it needs real tensors."""
    from attnbench.engine.ladder import LATTICE, SIDES, SMALL, climbed, side_of
    from attnbench.metrics.metric import Options
    from attnbench.report.growth import unproved

    def at(sides: Sequence[int], *metrics: str) -> "list[Record]":
        return climbed(root, channel, sides, Options(metrics, scratch=False), timeout)

    counts = ("params", "macs", *(["backward_macs"] if root.differentiates else []))

    def climb(sides: Sequence[int]) -> "list[Record]":
        return at(sides, *counts, "predicted_memory")

    first = climb([side_of(root)])
    if all(record.value("static.counted_on") == "meta" for record in first):
        records = [*first, *climb([side for side in SIDES if side != side_of(root)])]
        if unproved(records):
            records += climb(LATTICE)
    else:
        records = [*first, *at(SMALL[root.kind], *counts)]
    yield from records
    if not any(record.value("static.predicted_peak_bytes") for record in records):
        yield from at(SMALL[root.kind], "memory")


def _timed(root: "Case", channel: "Channel", timing: "Options", timeout: float) -> "Measured":
    from attnbench.engine.ladder import TIMED, TIMED_LARGER, climbed
    from attnbench.report.timed_growth import measured

    records = climbed(root, channel, TIMED[root.kind], timing, timeout)
    if measured(records).slope is None and all(record.ok for record in records):
        records += climbed(root, channel, TIMED_LARGER, timing, timeout)
    return measured(records)


def _print(audits: "Sequence[Audit]", records: "Sequence[Record]", format_: str) -> None:
    from attnbench.report.audit_table import as_json, as_markdown, render_audits

    if format_ == "table":
        console = new_console()
        console.print(render_audits(audits, records, console.width))
    else:
        typer.echo(as_json(audits) if format_ == "json" else as_markdown(audits, records), nl=False)


def _code(audits: "Sequence[Audit]") -> int:
    verdicts = {each.verdict for each in audits}
    if "refuted" in verdicts:
        return _REFUTED
    return CANNOT_JUDGE if "cannot tell" in verdicts else 0
