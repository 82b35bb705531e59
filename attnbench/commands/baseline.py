"""`attnbench baseline update`: a stored baseline, written or refreshed."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.commands import options as opt
from attnbench.commands.judging import Asked
from attnbench.commands.terminal import INTERRUPTED, interruptible, telling
from attnbench.core.errors import UsageError

__all__ = ["baseline"]

baseline = typer.Typer(rich_markup_mode=None)

File = Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Written, or refreshed where it is there.")]
Launches = Annotated[int, typer.Option(help="Fresh processes that each case is timed in.")]


@baseline.callback(invoke_without_command=True)
def _baseline(context: typer.Context) -> None:
    """What `attnbench check FILE` holds on to: update."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@baseline.command()
def update(
    context: typer.Context,
    file: File,
    module: opt.Module = None,
    network: opt.Network = None,
    attn: opt.Attn = None,
    swap: opt.Swap = None,
    at: opt.At = None,
    res: opt.Res = None,
    img_size: opt.ImgSize = None,
    seq_len: opt.SeqLen = None,
    batch_size: opt.BatchSize = None,
    dim: opt.Dim = None,
    heads: opt.Heads = None,
    dtype: opt.Dtype = None,
    device: opt.Device = "auto",
    mode: opt.Mode = None,
    engine: opt.Engine = None,
    backend: opt.Backend = None,
    layout: opt.Layout = "auto",
    set_: opt.Set = None,
    suite: opt.Suite = None,
    threads: opt.GateThreads = None,
    launches: Launches = 12,
    timeout: opt.Timeout = 600.0,
    seed: opt.Seed = 0,
    quiet: opt.Quiet = False,
) -> int:
    """Write a baseline of these cases: exact figures, and latencies beside fixed yardsticks.

    Cases that the file has and nobody asked for stay as they are. Exit code 3 where the machine is too noisy.
    """
    if file.suffix != ".jsonl":
        raise UsageError(f"{file} is no name for a baseline: it ends in .jsonl.")
    with interruptible():
        try:
            return _update(Asked.of(context), file, launches)
        except KeyboardInterrupt:
            typer.echo(f"attnbench: interrupted; {file} is as it was.", err=True)
            return INTERRUPTED


def _update(asked: Asked, file: Path, launches: int) -> int:
    from contextlib import closing

    from attnbench.commands.against_stored import looked_at
    from attnbench.engine.gate.baseline import Baseline
    from attnbench.engine.gate.twin_launcher import layout
    from attnbench.engine.gate.update import made, refreshed
    from attnbench.engine.workers.channels import WorkerChannel
    from attnbench.report.exporters import check_place

    check_place(file)
    before, questions, timeout = Baseline.load(file) if file.exists() else None, asked.questions, asked.typed["timeout"]
    with (
        closing(WorkerChannel(quiet=asked.typed["quiet"], env=layout())) as channel,
        telling(quiet=asked.typed["quiet"]) as tell,
    ):
        seen, env = looked_at(questions, channel, timeout, tell)
        absent = next((each.absent for each in seen if each.absent), "")
        if absent:
            raise UsageError(f"{absent}.")
        records = [each.record for each in seen if each.record is not None]
        found = made(records, channel, env, launches=launches, timeout=timeout, tell=tell)
    whole = found if before is None else refreshed(before, found)
    whole.write(file)
    kept = len(whole.lines) - len(found.lines)
    typer.echo(f"{len(found.lines)} case{'' if len(found.lines) == 1 else 's'} in {file}"
               f"{f', and {kept} that it had' if kept else ''}", err=True)  # fmt: skip
    return 0
