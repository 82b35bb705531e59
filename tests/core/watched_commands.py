"""Runs commands of attnbench in a process that writes down all that it opens, starts, compiles or connects to.

    python watched_commands.py COMMANDS.json EVENTS.json

The commands run twice: what Python and its libraries load when they are first used is not the second run's doing, of
which alone the events are kept.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

# Whatever touches another file, process, machine or piece of code.
WATCHED = (
    "open", "exec", "compile", "import", "subprocess.Popen", "os.system", "os.exec", "os.spawn", "os.posix_spawn",
    "os.fork", "os.forkpty", "os.startfile", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link",
    "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.listdir", "os.scandir", "shutil.", "socket.connect",
    "socket.getaddrinfo", "urllib.Request", "pickle.find_class", "marshal.", "ctypes.dlopen", "code.__new__",
    "function.__new__", "glob.glob", "tempfile.",
)  # fmt: skip


def watch(events: list[tuple[str, str]], on: list[bool]) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if on and any(event == name or (name.endswith(".") and event.startswith(name)) for name in WATCHED):
            events.append((event, str(arguments[0]) if arguments else ""))

    sys.addaudithook(hook)


def main() -> None:
    from attnbench.cli import _code

    asked, told = map(Path, sys.argv[1:])
    commands: list[list[str]] = json.loads(asked.read_text())
    events: list[tuple[str, str]] = []
    on: list[bool] = []
    codes: list[int] = []
    said = io.StringIO()
    watch(events, on)
    for second in (False, True):
        on += [True] * second
        codes.clear()
        for words in commands:
            sys.argv = ["attnbench", *words]
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                codes.append(_code())
    on.clear()
    told.write_text(json.dumps({"codes": codes, "events": events, "said": said.getvalue()}))


if __name__ == "__main__":
    main()
