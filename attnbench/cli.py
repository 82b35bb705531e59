"""The command line: parse, call, print, exit code."""

import io
import os
import sys
import warnings
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from attnbench import __version__
from attnbench.commands.ab import ab
from attnbench.commands.audit import audit
from attnbench.commands.baseline import baseline
from attnbench.commands.catalogue import list_, show
from attnbench.commands.check import check
from attnbench.commands.doctor import doctor
from attnbench.commands.export import export
from attnbench.commands.fit import fit
from attnbench.commands.run import RunCommand, run
from attnbench.commands.suite import suite
from attnbench.commands.terminal import CANNOT_JUDGE, INTERRUPTED, USAGE
from attnbench.core.errors import AttnbenchError, CannotJudgeError
from attnbench.core.plugins import LeftOutWarning

__all__ = ["app", "main"]

_SHOW = warnings.showwarning

app = typer.Typer(
    help="What an attention really costs: parameters, MACs, latency, memory and throughput.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(cls=RunCommand)(run)
app.command(name="list")(list_)
app.command()(show)
app.command()(audit)
app.command()(fit)
app.command()(export)
app.command()(check)
app.command()(ab)
app.command()(doctor)
app.add_typer(baseline, name="baseline")
app.add_typer(suite, name="suite")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"attnbench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line; every error that is the user's becomes one sentence and exit code 2, never a traceback."""
    sys.exit(_code())


def _code() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may have no × or ─, and a file's name may be no text
        sys.stdout.reconfigure(errors="replace")
    warnings.showwarning = _show  # one line for what is left out, instead of Python's own two
    try:
        result = app(standalone_mode=False)
    except AttnbenchError as error:
        _say(str(error))
        return CANNOT_JUDGE if isinstance(error, CannotJudgeError) else USAGE
    except (KeyboardInterrupt, EOFError):
        return INTERRUPTED
    except MemoryError:
        _say("this machine has too little memory for that.")
        return CANNOT_JUDGE
    except OSError as error:  # standard output, mostly: files are written where errors are expected
        _drop_output()
        if isinstance(error, BrokenPipeError):  # `attnbench list | head` is not a mistake
            return 0
        _say(f"the system refused to go on: {error}.")
        return USAGE
    except Exception as error:
        # Typer brings its own copy of click's errors in some versions and click itself in others.
        if type(error).__name__ == "Abort":
            return INTERRUPTED
        if not hasattr(error, "format_message"):
            raise
        _say(error.format_message())
        return USAGE
    return result if isinstance(result, int) else 0


def _drop_output() -> None:
    """What nobody takes is not tried again when Python ends, which would be an error that nobody can catch."""
    with suppress(OSError, ValueError):  # of a standard output that is no file, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    if issubclass(category, LeftOutWarning):
        _say(str(message))
    else:
        _SHOW(message, category, filename, lineno, file, line)


def _say(message: str) -> None:
    print(f"attnbench: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
