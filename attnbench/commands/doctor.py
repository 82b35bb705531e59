"""`attnbench doctor`: what can be measured on this machine, and by how much two runs of the same thing differ."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.commands import options as opt
from attnbench.commands.terminal import CANNOT_JUDGE, INTERRUPTED, new_console
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.core.case import Case
    from attnbench.engine.workers.channels import Channel
    from attnbench.metrics.metric import Options

__all__ = ["doctor"]

# The peaks that are measured where no dtype is asked for: what the device may have been bought for.
_ROOF = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16", "fp16")}
_FEWEST = 2

Module = Annotated[list[str] | None, typer.Option("--module", "-m", help="For the A/A run.  [default: self_attn]")]
_DTYPE_HELP = "Of the roof; the first also of the A/A run.  [default: fp32, bf16 ...]"
Dtype = Annotated[list[str] | None, typer.Option("--dtype", "--precision", help=_DTYPE_HELP)]
Processes = Annotated[int, typer.Option(help="Fresh worker processes of the A/A run.")]
MaxTime = Annotated[float, typer.Option(help="Seconds of sampling in each of them.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure the roof anew, whatever is kept of it.")]
Quick = Annotated[bool, typer.Option("--quick", help="Neither A/A run nor roof.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def doctor(
    module: Module = None,
    res: opt.Res = None,
    batch_size: opt.BatchSize = None,
    dim: opt.Dim = None,
    dtype: Dtype = None,
    device: opt.Device = "auto",
    processes: Processes = 5,
    max_time: MaxTime = 1.0,
    timeout: opt.Timeout = 600.0,
    threads: opt.Threads = None,
    quick: Quick = False,
    fresh: Fresh = False,
    json: Json = False,
    quiet: opt.Quiet = False,
) -> int:
    """What can be measured on this machine, and its noise floor: how much two runs of the same thing differ."""
    from attnbench.engine.sweep import Sweep

    sweep = Sweep(
        modules=opt.listed(module) or ["self_attn"], res=opt.listed(res), dim=opt.listed(dim), device=device,
        batch_size=opt.listed(batch_size) or ["1"], dtype=opt.listed(dtype) or ["fp32"],
    )  # fmt: skip
    cases = sweep.cases()
    options = replace(opt.measuring(["latency"], "1%", max_time, timeout, threads), processes=_enough(processes))
    _of_one(cases)
    found, finished = _examined(cases, options, timeout, default_roof=not dtype, quick=quick, fresh=fresh, quiet=quiet)
    _print(found, json=json)
    return _code(found, quick=quick, finished=finished)


def _enough(processes: int) -> int:
    if not _FEWEST <= processes <= 1000:
        raise UsageError(f"--processes {processes} is out of range: an A/A run compares at least {_FEWEST} processes.")
    return processes


def _of_one(cases: "Sequence[Case]") -> None:
    """Cases that differ in nothing but the dtype are one A/A run, of the first."""
    kinds = list(dict.fromkeys(case.with_(dtype="fp32") for case in cases))
    if len(kinds) > 1:
        raise UsageError(f"an A/A run repeats one case, and these are {len(kinds)}: give one --module at one size.")


def _examined(
    cases: "Sequence[Case]",
    options: "Options",
    timeout: float,
    *,
    default_roof: bool,
    quick: bool,
    fresh: bool,
    quiet: bool,
) -> tuple[dict[str, Any], bool]:
    """What was found, and whether that is all: Ctrl-C leaves what is there."""
    from rich.console import Console

    from attnbench.engine.doctor import Plan, blank, examined
    from attnbench.engine.workers.channels import WorkerChannel

    found = blank()
    channel = WorkerChannel(quiet=quiet)
    try:
        with Console(stderr=True, quiet=quiet).status("loading torch") as status:
            case = _resolved(cases, channel, options, timeout)
            kind = "cuda" if case.device.startswith("cuda") else "cpu"
            dtypes = _ROOF[kind] if default_roof else [each.dtype for each in cases]
            plan = Plan(case, options, dtypes, quick=quick, fresh=fresh, timeout=timeout)
            for found in examined(plan, channel, status.update):  # noqa: B007 - the last one is the whole
                pass
    except KeyboardInterrupt:
        return found, False
    finally:
        channel.close()
    return found, True


def _resolved(cases: "Sequence[Case]", channel: "Channel", options: "Options", timeout: float) -> "Case":
    """The case of the A/A run, on a device that is there, and built once without data."""
    from attnbench.core.record import Record
    from attnbench.engine.asking import on_device, resolved

    (answer,) = resolved(on_device(cases, channel, options)[:1], channel, timeout)
    assert not isinstance(answer, Record)  # where the only case cannot be built UsageError is raised
    return answer


def _print(found: dict[str, Any], *, json: bool) -> None:
    from attnbench.report.doctor_table import as_json, render_doctor

    if json:
        typer.echo(as_json(found), nl=False)
    elif found["env"] is not None:
        console = new_console()
        console.print(render_doctor(found, console.width))


def _code(found: dict[str, Any], *, quick: bool, finished: bool) -> int:
    if not finished:
        typer.echo("attnbench: interrupted; what was found out by then is printed.", err=True)
        return INTERRUPTED
    measured = quick or (found["noise"] or {}).get("largest") is not None
    return 0 if measured else CANNOT_JUDGE
