"""Thousands of generated command lines: never a traceback, always an exit code of the contract, one sentence on 2.

What measures answers at once here, since it is the command line that is tried. ATTNBENCH_FUZZ=20000 tries so many of
each kind, other ones each time.
"""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from argument_lists import argument_lists, suite_texts
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from instant_lanes import Instant, lanes
from typer.main import get_command

from attnbench.cli import _code, app
from attnbench.engine.executors.executor import EXECUTORS
from attnbench.engine.suite import example, load_suite, shipped

SOAK = int(os.environ.get("ATTNBENCH_FUZZ", "0"))
LINES, SUITES = 2500, 700
CODES = {0, 1, 2, 3, 130}
_MINE = "class MyAttn:\n    pass\n"
_GOOD_SUITE = "[grid.a]\nmodule = ['se', 'self_attn']\nres = [4, 8]\n[[exclude]]\nmodule = 'se'\nres = 8\n"


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Screen(NamedTuple):
    """What a line is printed on."""

    columns: str = "80"
    encoding: str = "utf-8"
    is_terminal: bool = False


def tried(count: int) -> settings:
    """So many examples, the same ones each time; a soak tries others, and as many as it was asked for."""
    return settings(
        max_examples=SOAK or count, derandomize=not SOAK, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that each line begins in, where everything that would measure answers at once."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("local", "ray", "instant"):
            patch.setitem(EXECUTORS._things, name, lanes)
        for name in ("WorkerChannel", "InlineChannel"):
            patch.setattr(f"attnbench.engine.workers.channels.{name}", lambda **_: Instant())
        patch.setattr("attnbench.cli.app", get_command(app))  # built once, since it is the same each time
        patch.setattr("attnbench.commands.audit._every_module", lambda: ["se", "eca"])
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        patch.chdir(folder)
        furnish(folder)
        yield folder


def furnish(folder: Path) -> None:
    good = ["run", "--executor", "instant", "-m", "se,self_attn", "--res", "4,8,13", "-o", "good.jsonl"]
    assert said(good, Screen()).code == 0
    line = (folder / "good.jsonl").read_bytes().splitlines(keepends=True)[0]
    records = (folder / "good.jsonl").read_bytes()
    (folder / "worse.jsonl").write_bytes(records.replace(b'"macs":', b'"macs":9'))
    (folder / "elsewhere.jsonl").write_bytes(records.replace(b'"fingerprint":"instant"', b'"fingerprint":"another"'))
    (folder / "torn.jsonl").write_bytes(line + line[:40])
    (folder / "garbage.jsonl").write_bytes(b'{"schema": 99}\n\xff\n[]\nnull\n{}')
    for name in ("empty.jsonl", "empty.toml"):
        (folder / name).touch()
    for name in ("folder.jsonl", "folder.md"):
        (folder / name).mkdir()
    if hasattr(os, "geteuid") and os.geteuid():  # root could do harm to what is in /dev
        for name in ("full.jsonl", "full.md"):
            (folder / name).symlink_to("/dev/full")  # a disk without room
    (folder / "loop.jsonl").symlink_to("loop.jsonl")
    (folder / "mine.py").write_text(_MINE)
    (folder / "good.toml").write_text(_GOOD_SUITE)
    (folder / "bad.toml").write_text("[grid.a]\nmodul = 'se'\n")


@contextlib.contextmanager
def inside(template: Path) -> Iterator[None]:
    """A copy of the folder, in which a line may write what it likes."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "folder"
        shutil.copytree(template, folder, symlinks=True)
        with contextlib.chdir(folder):
            yield


def said(words: Sequence[str], screen: Screen) -> Said:
    """What a line does in this process, on streams as strict as a process has them."""
    out = io.TextIOWrapper(io.BytesIO(), screen.encoding)
    err = io.TextIOWrapper(io.BytesIO(), screen.encoding, errors="backslashreplace")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["attnbench", *words])
        patch.setenv("COLUMNS", screen.columns)
        if screen.is_terminal:
            patch.setenv("FORCE_COLOR", "1")
        code = _code()
        out.flush()
        err.flush()
    texts = [stream.buffer.getvalue().decode(errors="replace") for stream in (out, err)]  # type: ignore[attr-defined]
    return Said(code, *texts)


def check(words: Sequence[str], screen: Screen) -> Said:
    """What holds of every line."""
    try:
        found = said(words, screen)
    except BaseException as error:  # SystemExit as well: it is _code that says how it ends
        pytest.fail(f"{words!r} on {screen}\n{''.join(traceback.format_exception(error)[-12:])}")
    assert found.code in CODES
    assert "Traceback" not in found.err
    sentences = [line for line in found.err.splitlines() if line.startswith("attnbench: ")]
    if found.code == 2:
        assert len(sentences) == 1, (words, found)
        assert found.err.endswith(sentences[0] + "\n"), (words, found)
    elif found.code == 0:
        assert not sentences, (words, found)
    return found


screens = st.builds(
    Screen,
    st.sampled_from(["80"] * 5 + ["120", "200", "40", "10", "1", "0", "-1", "", "wide"]),
    st.sampled_from(["utf-8"] * 8 + ["ascii", "latin-1"]),
    st.sampled_from([False] * 9 + [True]),
)


def test_no_line_ends_in_a_traceback(template: Path) -> None:
    codes: Counter[int] = Counter()

    @tried(LINES)
    @given(argument_lists(), screens)
    def holds(words: list[str], screen: Screen) -> None:
        with inside(template):
            codes[check(words, screen).code] += 1

    holds()
    print(codes)  # noqa: T201 - for whoever asks with -s
    assert codes.total() >= LINES
    # The lines are not all refused at the door, nor all let in.
    assert codes[0] > codes.total() / 5
    assert codes[2] > codes.total() / 5
    assert codes[3]


def test_no_suite_ends_in_a_traceback(template: Path) -> None:
    codes: Counter[int] = Counter()
    examples = [example(), _GOOD_SUITE, *(load_suite(name).file.text for name in shipped())]
    run = ["run", "--executor", "instant", "--suite", "s.toml"]
    ways = [["suite", "show", "s.toml"], [*run, "--quiet"], [*run, "--dry-run", "--metrics", "static"]]

    @tried(SUITES)
    @given(suite_texts(examples), st.sampled_from(ways))
    def holds(text: str, words: list[str]) -> None:
        with inside(template):
            Path("s.toml").write_bytes(text.encode(errors="surrogatepass"))
            codes[check(words, Screen()).code] += 1

    holds()
    print(codes)  # noqa: T201
    assert codes.total() >= SUITES
    assert codes[0] > codes.total() / 20
    assert codes[2] > codes.total() / 5


def test_together_they_are_two_thousand() -> None:
    assert LINES + SUITES >= 2000
