"""Who writes to a file of records on this machine: a run that resumes one wants to be alone there.

Two that resume the same file would both measure what is left, at the same time and in each other's way. The locks
stand in the folder of temporary files, not beside anybody's results, and go with their process however it ends. Where
a file system, or the whole system, cannot lock, nobody is refused.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnbench.core.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["writing"]


@contextmanager
def writing(path: Path, *, alone: bool) -> Iterator[None]:
    """While this goes on, others can know that the file is written; with `alone` it does not begin beside them.

    Raises:
        UsageError: it was to be alone, and another process writes to the file.
    """
    file = _locked(path, alone)
    try:
        yield
    finally:
        if file is not None:
            _let_go(file, path)


def _locked(path: Path, alone: bool) -> int | None:
    """The lock's open file; None where there can be none, which refuses nobody."""
    while fcntl is not None:
        try:
            file = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            if not alone:  # somebody resumes it, and who does not resume leaves nothing out: that stays as it was
                return None
            raise UsageError(f"another run is writing to {path}, and --resume goes on only where nobody else does: "
                             "wait for its end, or choose another file with --out.") from None  # fmt: skip
        except OSError:
            os.close(file)
            return None
        if _is_still_there(file, path):
            return file
        os.close(file)  # whoever had it took it away in this moment
    return None


def _let_go(file: int, path: Path) -> None:
    """Remove the lock's file, unless others hold it too, and give it back."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still_there(file, path):
            _lock_file(path).unlink()
    except OSError:
        pass
    finally:
        os.close(file)


def _is_still_there(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), _lock_file(path).stat())
    except OSError:
        return False


def _lock_file(path: Path) -> Path:
    """The same for every spelling of the path; other users have theirs."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:24]  # Path.resolve refuses a ring of links
    user = os.getuid() if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir()) / f"attnbench-{user}-{name}.lock"
