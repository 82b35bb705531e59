"""Whole lines at the end of a file that others may append to as well: each in one write and on the disk, or not there.

A file system that cannot lock or sync is taken as it is: there a line is still one write.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: a line is one write there too, but nothing keeps two processes from writing at once
    fcntl = None  # type: ignore[assignment]

__all__ = ["append_line", "check_appendable", "rescued"]

_APPEND = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
_CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def check_appendable(path: Path) -> None:
    """Find out whether lines can be appended there, without a trace where there is no such file; makes its folders.

    Nothing is created under the file's own name: another process may be about to write there.

    Raises:
        OSError: it cannot, with the reason in `strerror`.
        ValueError: what no file can be called.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        tempfile.TemporaryFile(dir=path.parent).close()
        return
    if stat.S_ISLNK(kind) and not path.exists():
        raise FileNotFoundError(errno.ENOENT, "it is a link that leads nowhere")
    if path.is_fifo() or path.is_socket():
        raise OSError(errno.EINVAL, "it is a pipe, and no file")
    with _opened(path, _APPEND):
        pass


def append_line(path: Path, line: bytes) -> None:
    """Append the line, with its line end, and see it on the disk; a line that a crash left unfinished is ended first.

    Raises:
        OSError: it could not be written, and nothing of it is in the file.
    """
    with _opened(path, _APPEND | os.O_CREAT) as file:
        _lock(file)
        size = os.fstat(file).st_size
        try:
            _write(file, (b"\n" if _is_torn(file, size) else b"") + line)
            _sync(file)
        except BaseException:  # Ctrl-C as well: the part that was written would stand as a torn line
            with suppress(OSError):  # a device cannot be shortened, and keeps nothing
                os.ftruncate(file, size)
            raise
    if size == 0:
        _sync_folder(path)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags, 0o666)
    try:
        yield file
    finally:
        os.close(file)  # which gives back a lock too


def _lock(file: int) -> None:
    """Wait until nobody else appends. The lock goes with its process, however that ends."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_torn(file: int, size: int) -> bool:
    if size == 0:
        return False
    os.lseek(file, -1, os.SEEK_END)
    return os.read(file, 1) != b"\n"


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:  # the system takes all of it at once, unless the disk is full or a signal came
        left = left[os.write(file, left) :]


def _sync(file: int) -> None:
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _sync_folder(path: Path) -> None:
    """A new file is safe from a power cut once the name of it is on the disk too."""
    with suppress(OSError), _opened(path.resolve().parent, os.O_RDONLY) as folder:
        os.fsync(folder)


def rescued(line: bytes) -> Path:
    """A new file in the folder of temporary files that holds the line.

    Raises:
        OSError: there is no room for it either.
    """
    file, name = tempfile.mkstemp(prefix="attnbench-rescued-", suffix=".jsonl")
    try:
        _write(file, line)
        _sync(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    return Path(name)
