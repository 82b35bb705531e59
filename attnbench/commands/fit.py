"""`attnbench fit`: the largest resolution, and the largest batch, that fit into a given memory."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.commands import options as opt
from attnbench.commands.terminal import INTERRUPTED, new_console
from attnbench.core.errors import CannotJudgeError, UsageError

if TYPE_CHECKING:
    from attnbench.core.case import Case
    from attnbench.core.fit import Asked, Fit
    from attnbench.engine.sweep import Sweep
    from attnbench.engine.workers.channels import Channel

__all__ = ["fit"]


def fit(
    target: opt.Targets = None,
    module: opt.Module = None,
    network: opt.Network = None,
    attn: opt.Attn = None,
    swap: opt.Swap = None,
    at: opt.At = None,
    memory: Annotated[str | None, typer.Option(help="80GiB, 512MiB.  [default: what is free on the device]")] = None,
    res: Annotated[opt.Many, typer.Option(help="The largest batch on this map: 64 or 48x64.")] = None,
    img_size: Annotated[opt.Many, typer.Option(help="The largest batch of such images.")] = None,
    seq_len: Annotated[opt.Many, typer.Option(help="The largest batch of so many tokens.")] = None,
    batch_size: Annotated[opt.Many, typer.Option("--batch-size", "-b", help="The largest size at this batch.")] = None,
    dim: opt.Dim = None,
    heads: opt.Heads = None,
    dtype: opt.Dtype = None,
    device: opt.Device = "auto",
    mode: opt.Mode = None,
    backend: opt.Backend = None,
    layout: opt.Layout = "auto",
    set_: opt.Set = None,
    timeout: Annotated[float, typer.Option(help="Seconds of silence after which a size cannot be predicted.")] = 60.0,
    isolate: opt.Isolate = True,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    quiet: opt.Quiet = False,
) -> int:
    """The largest resolution and batch that fit into a memory.

    They are predicted from shapes; nothing is run.
    """
    from attnbench.core.units import parse_bytes
    from attnbench.engine.fit import most_memory
    from attnbench.engine.sweep import Sweep
    from attnbench.engine.workers.channels import InlineChannel, WorkerChannel

    modules, networks = opt.by_kind(opt.listed(target))
    sweep = Sweep(
        modules=[*modules, *opt.listed(module)], networks=[*networks, *opt.listed(network)], attn=opt.listed(attn),
        swap=opt.listed(swap), at=opt.listed(at),
        res=opt.listed(res), img_size=opt.listed(img_size), seq_len=opt.listed(seq_len),
        batch_size=opt.listed(batch_size) or ["1"], dim=opt.listed(dim), heads=opt.listed(heads),
        dtype=opt.listed(dtype) or ["fp32"], mode=opt.listed(mode) or ["fwd"], backend=opt.listed(backend),
        layout=layout, device=device, settings=set_ or [],
    )  # fmt: skip
    questions = _questions(sweep, batch_given=bool(batch_size))
    limit = None if memory is None else most_memory(parse_bytes(memory))
    if not 0 < timeout < 10**7:
        raise UsageError(f"--timeout {timeout:g} is out of range: give seconds above 0.")
    channel = WorkerChannel(quiet=quiet) if isolate else InlineChannel()
    try:
        fits, finished = _answered(questions, limit, channel, timeout, quiet)
    finally:
        channel.close()
    _show(fits, json_, origin="" if memory else "95 % of what is free")
    return 0 if finished else INTERRUPTED


def _questions(sweep: "Sweep", *, batch_given: bool) -> "list[tuple[Case, Asked, bool]]":
    """Cases, what is asked of each, and whether its size is the user's: what was not given is searched for.

    With a size the largest batch is asked for, with a batch the largest size, with both or neither both.
    """
    from dataclasses import replace

    size_given = bool(sweep.res or sweep.img_size or sweep.seq_len)
    questions: list[tuple[Case, Asked, bool]] = []
    if batch_given or not size_given:
        # Any one size will do to begin with; that of the user is one that the target accepts.
        begin = replace(sweep, res=sweep.res[:1], img_size=sweep.img_size[:1], seq_len=sweep.seq_len[:1])
        questions += [(case, "size", size_given) for case in begin.cases()]
    if size_given or not batch_given:
        questions += [(case, "batch", size_given) for case in replace(sweep, batch_size=["1"]).cases()]
    return questions


def _answered(
    questions: "Sequence[tuple[Case, Asked, bool]]", limit: int | None, channel: "Channel", timeout: float, quiet: bool
) -> "tuple[list[Fit], bool]":
    """The answers, and whether all are there."""
    from rich.console import Console

    from attnbench.engine.fit import fit

    fits: list[Fit] = []
    try:
        with Console(stderr=True, quiet=quiet).status("loading torch") as status:
            ready, limit = _ready(questions, limit, channel, timeout)
            for case, asked in ready:
                status.update(f"the largest {asked} of {case.name}".replace("[", "\\["))
                fits.append(fit(case, asked, limit, channel, timeout))
    except KeyboardInterrupt:
        return fits, False
    return fits, True


def _ready(
    questions: "Sequence[tuple[Case, Asked, bool]]", limit: int | None, channel: "Channel", timeout: float
) -> "tuple[list[tuple[Case, Asked]], int]":
    """The Cases resolved, at sizes that are accepted; and the limit, which is what is free if none was given."""
    from attnbench.engine.asking import on_device
    from attnbench.engine.fit import PREDICTION, free_memory, in_tokens, starting_case

    cases = on_device([case for case, _, _ in questions], channel, PREDICTION)
    ready = [
        (starting_case(case, channel, fixed=fixed, timeout=timeout), asked)
        for case, (_, asked, fixed) in zip(cases, questions, strict=True)
    ]
    sizes = in_tokens([case for case, asked in ready if asked == "size"], channel, timeout)
    batches = [case for case, asked in ready if asked == "batch"]
    if limit is None:
        limit = free_memory(cases[0].device, channel)
    return [*((case, "size") for case in sizes), *((case, "batch") for case in batches)], limit


def _show(fits: "Sequence[Fit]", json_: bool, origin: str) -> None:
    from attnbench.report.fit_table import render_fits

    if json_:
        typer.echo(json.dumps([each.to_dict() for each in fits], indent=2, ensure_ascii=False))
    elif fits:
        console = new_console()
        console.print(render_fits(fits, console.width, origin=origin))
    if fits and all(each.verdict == "unknown" for each in fits):
        reasons = dict.fromkeys(f"{each.case.name}: {each.beyond.reason}" for each in fits if each.beyond)
        raise CannotJudgeError(f"nothing could be predicted ({'; '.join(reasons)}).")
