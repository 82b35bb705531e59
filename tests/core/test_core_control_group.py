"""What a container's files tell of memory, in both versions of control groups."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from attnbench.core import control_group

Files = Callable[[Mapping[str, str]], None]
ROOT = "/sys/fs/cgroup"
NO_LIMIT = "9223372036854771712\n"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """Let the system consist of these files alone."""

    def only(contents: Mapping[str, str]) -> None:
        def read_text(path: Path, *_: object, **__: object) -> str:
            if str(path) not in contents:
                raise FileNotFoundError(path)
            return contents[str(path)]

        monkeypatch.setattr(Path, "read_text", read_text)

    return only


def second(folder: str, limit: str, used: int, cache: int = 0) -> dict[str, str]:
    stat = f"anon 5\ninactive_anon 9\ninactive_file {cache}\n"
    files = {"max": f"{limit}\n", "current": f"{used}\n", "stat": stat}
    return {f"{folder}/memory.{name}": text for name, text in files.items()}


def first(folder: str, limit: str, used: int, cache: int = 0) -> dict[str, str]:
    stat = f"inactive_file 1\ntotal_inactive_file {cache}\n"
    return {f"{folder}/memory.limit_in_bytes": limit, f"{folder}/memory.usage_in_bytes": f"{used}\n",
            f"{folder}/memory.stat": stat}  # fmt: skip


@pytest.mark.parametrize(
    ("contents", "left"),
    [
        ({}, None),
        (second(ROOT, "max", 5), None),
        (second(ROOT, "100", 40), 60),
        (second(ROOT, "100", 40, 7), 67),
        (second(ROOT, "100", 140), 0),
        # A job's own group, and the tighter limit of the one around it.
        ({"/proc/self/cgroup": "0::/a/b\n", **second(f"{ROOT}/a/b", "100", 40), **second(f"{ROOT}/a", "90", 50)}, 40),
        ({"/proc/self/cgroup": "0::/a/b\n", **second(f"{ROOT}/a/b", "100", 70), **second(f"{ROOT}/a", "max", 50)}, 30),
        # What /proc tells of a container may be its path outside.
        ({"/proc/self/cgroup": "0::/docker/x\n", **second(ROOT, "100", 40)}, 60),
        ({"/proc/self/cgroup": "0::/../../x\n", **second(ROOT, "100", 40)}, 60),
        ({"/proc/self/cgroup": "4:memory:/j\n0::/\n", **first(f"{ROOT}/memory/j", "100\n", 40, 7)}, 67),
        ({"/proc/self/cgroup": "4:cpu,memory:/j\n", **first(f"{ROOT}/memory/j", NO_LIMIT, 40)}, None),
        (first(f"{ROOT}/memory", "100\n", 40), 60),
    ],
)
def test_the_tightest_limit_is_what_counts(files: Files, contents: dict[str, str], left: int | None) -> None:
    files(contents)
    assert control_group.left() == left


EVENTS = "low 0\nhigh 0\nmax 3\noom 5\noom_kill 2\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("contents", "killed"),
    [
        ({}, None),
        ({f"{ROOT}/memory.events": EVENTS}, 2),
        ({"/proc/self/cgroup": "0::/a\n", f"{ROOT}/a/memory.events": EVENTS}, 2),
        ({f"{ROOT}/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"}, 4),
        ({f"{ROOT}/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, None),  # before Linux 4.13
    ],
)
def test_kills_are_counted_where_the_group_tells(files: Files, contents: dict[str, str], killed: int | None) -> None:
    files(contents)
    assert control_group.kills()() == killed


def test_the_group_of_another_process_is_remembered_beyond_its_end(files: Files) -> None:
    counter = f"{ROOT}/jobs/7/memory.events"
    files({"/proc/41/cgroup": "0::/jobs/7\n", counter: EVENTS, f"{ROOT}/memory.events": "oom_kill 9\n"})
    count = control_group.kills("41")
    assert count() == 2
    files({counter: EVENTS.replace("oom_kill 2", "oom_kill 3"), f"{ROOT}/memory.events": "oom_kill 9\n"})
    assert count() == 3
