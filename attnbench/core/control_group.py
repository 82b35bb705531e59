"""What the control group of this process (a container's, a job's) tells of memory: what is left, what was killed."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

__all__ = ["kills", "left"]

_MOUNT = Path("/sys/fs/cgroup")
_MOUNT_1 = _MOUNT / "memory"  # of the first version, which has a mount for each kind of resource
_NO_LIMIT = 2**60  # as the first version writes it, roughly


def left() -> int | None:
    """Bytes that the tightest limit of the group, or of one around it, leaves; None where there is none."""
    limits = [*map(_left_2, _folders("", _MOUNT)), *map(_left_1, _folders("memory", _MOUNT_1))]
    return min((each for each in limits if each is not None), default=None)


def kills(process: str = "self") -> Callable[[], int | None]:
    """What tells, now and later, how many processes the out-of-memory killer has taken from the group of that one.

    None is told where it cannot be known. The process itself need not live any more by then.
    """
    places = [folder / "memory.events" for folder in _folders("", _MOUNT, process)]
    places += [folder / "memory.oom_control" for folder in _folders("memory", _MOUNT_1, process)]
    place = next((each for each in places if _field(each, "oom_kill") is not None), None)
    return lambda: None if place is None else _field(place, "oom_kill")


def _folders(controller: str, mount: Path, process: str = "self") -> Iterator[Path]:
    """The group's folder and those around it, innermost first; in a container the mount is often the group itself."""
    own = PurePosixPath(_own(controller, process).lstrip("/"))
    if ".." not in own.parts:  # then it lies outside of what is mounted here
        yield from (mount / folder for folder in (own, *own.parents) if folder != PurePosixPath())
    yield mount


def _own(controller: str, process: str) -> str:
    """The group's path, as /proc/PID/cgroup has it: `4:cpu,memory:/jobs/17`, in the second version `0::/jobs/17`."""
    try:
        rows = [line.split(":", 2) for line in Path(f"/proc/{process}/cgroup").read_text().splitlines()]
    except OSError:
        return ""
    return next((row[2] for row in rows if len(row) == 3 and controller in row[1].split(",")), "")


def _left_2(folder: Path) -> int | None:
    return _difference(folder, "memory.max", "memory.current", "inactive_file")


def _left_1(folder: Path) -> int | None:
    return _difference(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _difference(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """What the limit leaves; the cache of files can be given back, so that it does not count as used."""
    try:
        most, now = int((folder / limit).read_text()), int((folder / used).read_text())
    except (OSError, ValueError):  # there is none, or it is "max"
        return None
    if most >= _NO_LIMIT:
        return None
    return max(0, most - now + (_field(folder / "memory.stat", cache) or 0))


def _field(path: Path, name: str) -> int | None:
    """Of a file of lines `name number`."""
    try:
        found = re.search(rf"^{name} (\d+)$", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
