"""`attnbench`, and `python -m attnbench`: the command line, of which Ctrl-C makes no traceback while it is loaded."""

import sys
from typing import NoReturn

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> NoReturn:
    """The command line; see attnbench.cli."""
    try:
        from attnbench.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    command_line()


if __name__ == "__main__":
    main()
