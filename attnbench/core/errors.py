"""The one tree of errors; the command line turns each leaf into a sentence and an exit code.

AttnbenchError
├── UsageError        exit 2: the question cannot be asked (unknown name, bad value, unreadable file)
│   └── AbsentError        this version of the code does not have that target
├── VersionsClash     two versions of the code cannot share a process; they are measured in processes of their own
├── CannotJudgeError  exit 3: the question is good, but what was measured does not answer it
└── CaseError         becomes the row of one case, never an exit
    ├── UnsupportedError   this module cannot be built or run at this shape, dtype, device or engine
    ├── OutOfMemoryError   the device or the host has too little memory, found or predicted
    └── IncorrectError     it ran, and what came out cannot be right (NaN, infinity)
"""

__all__ = [
    "AbsentError",
    "AttnbenchError",
    "CannotJudgeError",
    "CaseError",
    "IncorrectError",
    "OutOfMemoryError",
    "UnsupportedError",
    "UsageError",
    "VersionsClash",
    "first_line",
    "named",
]

# Characters of a foreign error that are looked at, and that are passed on.
_MOST_READ, _LONGEST = 100_000, 1_000


class AttnbenchError(Exception):
    """Base of every error that attnbench raises on purpose."""


class UsageError(AttnbenchError):
    """The question cannot be asked as it stands; the message says what, where, and what to do instead."""


class AbsentError(UsageError):
    """This version of the code does not have the target; another may."""


class VersionsClash(AttnbenchError):  # noqa: N818 - a finding, which decides how the two are measured
    """Two versions of the code cannot be loaded into one process; the message says why."""


class CannotJudgeError(AttnbenchError):
    """The records at hand do not answer the question; the message says why."""


class CaseError(AttnbenchError):
    """One case cannot be measured; the message becomes the reason in its record."""

    status = "error"


class UnsupportedError(CaseError):
    """The module refuses this shape, dtype, device or engine."""

    status = "unsupported"


class OutOfMemoryError(CaseError):
    """The case does not fit into memory."""

    status = "oom"


class IncorrectError(CaseError):
    """The step ran and gave something that is not a number."""

    status = "incorrect"


def first_line(error: BaseException) -> str:
    """What an error says, on one line that a table can bear; its type where it says nothing, or cannot."""
    try:
        text = str(error)
    except Exception:  # it is foreign code like any other
        text = ""
    line = (text[:_MOST_READ].strip() or type(error).__name__).split("\n", 1)[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def named(error: BaseException) -> str:
    """An error's type and what it says, on one line: `ValueError: no such axis`."""
    text = first_line(error)
    return text if text == type(error).__name__ else f"{type(error).__name__}: {text}"
