"""How an answer ends when something was raised: the status of the row, and a reason that a person understands."""

from attnbench.core.errors import AbsentError, CaseError, UsageError, VersionsClash, first_line, named
from attnbench.core.places import place_of
from attnbench.engine.memory_cap import is_out_of_memory, out_of_memory
from attnbench.engine.workers.channels import Event

__all__ = ["CLASH", "done", "ended_by"]

# How twins end that cannot share a process; no status of a record, since they are then measured apart.
CLASH = "clash"


def done(status: str, reason: str) -> Event:
    """The last event of an answer."""
    return {"event": "done", "status": status, "reason": reason}


def ended_by(error: BaseException) -> Event:
    """The last event of an answer that ended with this; of foreign code, which may raise whatever it likes."""
    if isinstance(error, UsageError):
        return {"event": "usage", "text": str(error), "absent": isinstance(error, AbsentError)}
    if isinstance(error, VersionsClash):
        return done(CLASH, str(error))
    if isinstance(error, CaseError):
        return done(error.status, str(error))
    if is_out_of_memory(error):
        return done("oom", out_of_memory(error))
    if isinstance(error, NotImplementedError):
        return done("unsupported", first_line(error))
    if isinstance(error, SystemExit):  # which a worker survives, and the user's own program would not
        return done("crashed", f"it asked the process to end with exit code {_code(error)}{_where(error)}")
    if isinstance(error.__cause__, StopIteration):  # Python makes a RuntimeError of it, which says nothing
        return done("error", f"{named(error.__cause__)}{_where(error.__cause__)}")
    return done("error", f"{named(error)}{_where(error)}")


def _code(error: SystemExit) -> int:
    """As Python would end with it: None is success, and a text is printed and is a failure."""
    code = error.code
    return code if isinstance(code, int) else int(code is not None)


def _where(error: BaseException) -> str:
    place = place_of(error)
    return f" ({place})" if place else ""
