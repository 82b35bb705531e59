"""The worker process: reads requests from its standard input and writes events to its standard output, as JSON lines.

The two streams are taken away from everything else first, so that a module that prints, or reads, cannot disturb them.
"""

import json
import os
import signal
import sys
import warnings
from typing import TextIO

from attnbench.core.plugins import PluginWarning

__all__ = ["main"]


def main() -> None:
    """Serve until the input ends, which it does when the parent goes away, however that happens."""
    # Ctrl-C reaches the whole process group; the parent decides what becomes of the case.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore", PluginWarning)  # the parent has said it
    requests, events = _private_streams()
    from attnbench.engine.answer import answer  # torch is loaded only once the streams are safe

    for line in requests:
        for event in answer(json.loads(line)):
            events.write(json.dumps(event) + "\n")
            events.flush()


def _private_streams() -> tuple[TextIO, TextIO]:
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    return requests, events


if __name__ == "__main__":
    main()
