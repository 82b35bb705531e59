"""What is seen while a run goes on: what fits the terminal, in time that does not grow with what was measured."""

import io
import re
import threading
from dataclasses import replace

import pytest
from report_records import BUILT, LAUNCH_BOUND, LINEAR, QUADRATIC, live, module, record, static, troubled
from rich.console import Console

from attnbench.core.record import Note
from attnbench.report import running, table
from attnbench.report.running import RunningTable
from attnbench.report.screen import Screen, watched

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def console(width=80, height=24, **fields):
    return Console(width=width, height=height, file=io.StringIO(), force_terminal=True, **fields)


def seen(shown, terminal):
    terminal.file.truncate(0)
    terminal.file.seek(0)
    terminal.print(shown, end="")
    return [line.rstrip() for line in ESCAPES.sub("", terminal.file.getvalue()).split("\n")]


def rows(count):
    notes = (BUILT, Note("noisy", "noisy: the interval is wide; close other programs, or give it more time to sample."))
    made = []
    for number in range(count):
        claim = QUADRATIC if number % 10 == 0 else LINEAR
        case = module(f"my_attention.py:Attention{number % 10}", 16 + number // 10)
        made.append(record(case, *static(1, number + 1, 7, claim), *live(1.0 + number), notes=notes))
    return made


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 24), (120, 60), (60, 12), (40, 8), (30, 3)])
@pytest.mark.parametrize("lanes", [1, 4, 64])
@pytest.mark.parametrize("count", [0, 1, 9, 300])
def test_all_fits_the_terminal(width, height, lanes, count):
    terminal = console(width, height)
    shown = Screen(terminal, 10_000)
    for number, each in enumerate([*troubled(), *rows(count)] if count else []):
        shown.starting(f"{each.case.name * 3}, process 2 of 5", f"cuda:{number % lanes}" if lanes > 1 else "")
        shown.add(each)
    lines = seen(shown, terminal)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    if height >= 24 and count:
        assert rows(count)[-1].case.size in " ".join(lines)
        assert f"{count + 6:,} rows so far · 1 oom · 1 crashed" in " ".join(lines)


def test_few_rows_stand_there_as_in_the_final_table():
    terminal = console(100, 60)
    shown = Screen(terminal, 6)
    for each in troubled():
        shown.add(each)
    lines = seen(shown, terminal)
    final = seen(table.render(troubled(), 100), terminal)
    body = final[final.index("") : final.index("", final.index("") + 1)]
    assert "\n".join(body) in "\n".join(lines)
    assert lines[1] == "6 rows so far · 1 oom · 1 crashed"
    assert [line for line in lines if line.startswith("³ crashed")]


def test_a_row_is_set_against_a_baseline_that_is_out_of_sight():
    terminal = console(120, 30)
    base = record(module("base", 500), *static(1, 1, claim=QUADRATIC), *live(8.0))
    before = record(module("base", 501), *static(1, 1, claim=QUADRATIC), *live(9.0))
    shown = Screen(terminal, 300)
    shown.kept([before])
    for each in [base, *rows(250), *(record(module("quick", side), *live(1.0)) for side in (500, 501))]:
        shown.add(each)
    lines = seen(shown, terminal)
    assert not [line for line in lines if line.startswith("base")]
    at = next(line for line in lines if "Speed-up" in line).index("Speed-up")
    quick = [line for line in lines if line.startswith("quick")]
    assert [line[at : at + 8].strip() for line in quick] == ["8.00", "9.00"]


def test_a_refresh_costs_what_the_terminal_shows_and_not_what_was_measured(monkeypatch):
    asked = []
    original = running.sheet_of
    monkeypatch.setattr(running, "sheet_of", lambda rows: asked.append(len(rows)) or original(rows))
    terminal = console()
    shown = Screen(terminal, 10_000)
    for each in rows(2_000):
        shown.starting(each.case.name)
        shown.add(each)
    assert asked == []  # adding draws nothing
    seen(shown, terminal)
    assert asked and max(asked) <= 24 and len(asked) <= 6
    drawn = len(asked)
    seen(shown, terminal)
    assert len(asked) == drawn  # no news


def test_news_wait_for_each_other_and_a_new_size_does_not():
    now = [0.0]
    terminal = console()
    kept = RunningTable(clock=lambda: now[0])
    kept.add(rows(1)[0])
    first = kept.lines(terminal, terminal.options, 20)
    kept.add(rows(2)[1])
    assert kept.lines(terminal, terminal.options, 20) is first
    assert kept.lines(terminal, terminal.options, 19) is not first
    now[0] = 1.0
    kept.add(rows(3)[2])
    assert "3 rows so far" in str(kept.lines(terminal, terminal.options, 19))


def test_each_lane_has_a_line_and_the_rest_a_number():
    terminal = console(80, 40)
    shown = Screen(terminal, 100)
    assert "loading torch" in seen(shown, terminal)
    for number in range(8):
        shown.starting(f"attention_{number}", f"cuda:{number}")
    lines = seen(shown, terminal)
    assert "loading torch" not in lines
    assert lines[:7] == [f"cuda:{number}  attention_{number}" for number in range(6)] + ["and 2 more"]
    shown.resting("cuda:0")
    shown.starting("attention_9, process 2 of 5", "cuda:1")
    assert seen(shown, terminal)[:7] == ["cuda:1  attention_9, process 2 of 5"] + [
        f"cuda:{number}  attention_{number}" for number in range(2, 8)
    ]


def test_a_name_moves_no_cursor():
    terminal = console()
    shown = Screen(terminal, 1)
    shown.starting("\x1b[2Jgone [red]x[/red]\n注意力" * 9)
    (name, bar, _) = seen(shown, terminal)
    assert name.startswith("\\x1b[2Jgone [red]x[/red]\\n") and name.endswith("…")
    assert "0/1" in bar


def test_what_is_there_already_says_nothing_of_the_time_that_is_left():
    now = [0.0]
    terminal = console(get_time=lambda: now[0])
    shown = Screen(terminal, 10_000)
    shown.skipped(3_000)
    assert "3000/10000 0:00:00 so far" in seen(shown, terminal)[1]
    for _ in range(11):
        now[0] += 60
        shown.add(rows(1)[0])
    line = next(line for line in seen(shown, terminal) if "/10000" in line)
    # 6989 more, one a minute.
    assert line.endswith("3011/10000 0:11:00 so far, about 4 d 20 h left")


def test_many_threads_lose_no_row():
    terminal = console()
    shown = Screen(terminal, 4_000)
    made = rows(500)

    def lane(name):
        for each in made:
            shown.starting(each.case.name, name)
            shown.add(each)

    with shown.live:
        threads = [threading.Thread(target=lane, args=(f"cuda:{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        terminal.file.truncate(0)
        lines = seen(shown, terminal)
    assert "4000/4000" in " ".join(lines)


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_it_is_silent_on_a_pipe_and_when_quiet(terminal, quiet):
    file = io.StringIO()
    with watched(Console(file=file, force_terminal=terminal, width=80), 2, quiet=quiet) as shown:
        shown.starting("self_attn")
        shown.add(replace(rows(1)[0], notes=(LAUNCH_BOUND,)))
    assert file.getvalue() == ""


def test_it_leaves_nothing_behind_on_a_terminal():
    terminal = console()
    with watched(terminal, 2, quiet=False) as shown:
        shown.starting("self_attn")
        shown.add(rows(1)[0])
        shown.live.refresh()
        drawn = terminal.file.getvalue().rpartition("\x1b[2K")[2].count("\n")
    text = terminal.file.getvalue()
    assert "Attention0" in text
    # As many lines up, each erased, as the last drawing has.
    assert drawn > 6 and text.endswith("\x1b[1A\x1b[2K" * drawn)
