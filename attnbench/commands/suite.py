"""`attnbench suite`: the suites that there are, what one of them asks, and a new one to begin with."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.commands.terminal import new_console
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.engine.question import Question
    from attnbench.engine.suite import Suite
    from attnbench.metrics.metric import Options
    from attnbench.report.suite_table import AskedSuite

__all__ = ["suite"]

suite = typer.Typer(rich_markup_mode=None)

Which = Annotated[str, typer.Argument(metavar="SUITE", help="A name, or a file like my_suite.toml.")]


@suite.callback(invoke_without_command=True)
def _suite(context: typer.Context) -> None:
    """What to measure, kept in a file: list, show, new."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@suite.command(name="list")
def list_(json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """The suites that come with attnbench. Run one: attnbench run --suite NAME."""
    from attnbench.engine.suite import load_suite, shipped
    from attnbench.report.suite_table import as_json, render_list

    found = [_asked(load_suite(name)) for name in shipped()]
    if json_:
        typer.echo(as_json(found))
    else:
        new_console().print(render_list(found))


@suite.command()
def show(
    what: Which,
    toml: Annotated[bool, typer.Option("--toml", help="The file itself, to begin an own one with.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What a suite asks, grid by grid. A file is checked on the way."""
    from attnbench.engine.suite import load_suite
    from attnbench.report.suite_table import as_json, render_suite

    loaded = load_suite(what)
    if toml:
        typer.echo(loaded.file.text, nl=False)
    elif json_:
        typer.echo(as_json([_asked(loaded)]))
    else:
        new_console().print(render_suite(_asked(loaded)))


@suite.command()
def new(
    file: Annotated[str | None, typer.Argument(metavar="[FILE.toml]", help="[default: standard output]")] = None,
) -> None:
    """Write a small suite that explains itself. It can be run; a file that is there is left alone."""
    from attnbench.engine.suite import example

    if file is None or file == "-":
        typer.echo(example(), nl=False)
        return
    path = Path(file)
    if path.suffix != ".toml":
        raise UsageError(f"{file} is no name for a suite: it ends in .toml.")
    try:
        with path.open("x", encoding="utf-8") as opened:
            opened.write(example())
    except FileExistsError as error:
        raise UsageError(f"{file} is there already: give another name, or remove it first.") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write to {file}: {getattr(error, 'strerror', None) or error}.") from error
    typer.echo(f"{file} is written. Edit it, and: attnbench run --suite {file}", err=True)


def _asked(loaded: "Suite") -> "AskedSuite":
    from attnbench.report.suite_table import AskedGrid, AskedSuite

    grids = {grid.name: grid for grid in loaded.grids}
    return AskedSuite(loaded.name, loaded.description, [
        AskedGrid(name, grids[name].description, [each.case for each in questions], Counter(map(_way, questions)))
        for name, questions in loaded.by_grid().items()
    ])  # fmt: skip


def _way(question: "Question") -> str:
    """How a question is measured, in the words of the options, as far as it is not as usual."""
    options = question.options
    said = [",".join(options.metrics), *_said(options)]
    return " · ".join([*said, *(["batch of best throughput"] if options.best_batch else [])])


def _said(options: "Options") -> "list[str]":
    from attnbench.metrics.metric import Options

    usual = Options()
    shown = {
        "precision-target": (options.precision_target, f"{100 * options.precision_target:g}%", usual.precision_target),
        "max-time": (options.max_time, f"{options.max_time:g} s", usual.max_time),
        "processes": (options.processes, str(options.processes), usual.processes),
        "threads": (options.threads, str(options.threads), usual.threads),
        "keep-samples": (options.keep_samples, "", usual.keep_samples),
        "subtract-idle": (options.subtract_idle, "", usual.subtract_idle),
    }
    return [f"{name} {text}".strip() for name, (value, text, default) in shown.items() if value != default]
