"""The far end of a lane: what runs on a machine of a cluster, beside the worker process that it asks."""

import os
import subprocess
import tempfile
from pathlib import Path

from attnbench.engine.executors.travel import Parcel, unpacked
from attnbench.engine.workers.channels import Event, WorkerChannel, WorkerDied

__all__ = ["Answer", "FarEnd"]

# The events, and what the worker died of, where it did: what crosses a network is plain.
Answer = tuple[list[Event], tuple[str, str] | None]

_THREADS = "OMP_NUM_THREADS"


class FarEnd:
    """Answers in a worker process of its own, so that a fault costs that one; the user's files lie in a folder for it.

    It is made the actor of a cluster, which ends it by killing its process: worker and folder go with that.
    """

    def __init__(self, parcel: Parcel, *, quiet: bool) -> None:
        folder = Path(tempfile.mkdtemp(prefix="attnbench-")).resolve()
        self._until = _swept_up(folder)
        self._names = unpacked(parcel, folder)
        os.chdir(folder / "0")  # where the worker looks for import paths
        _own_threads()
        self._channel = WorkerChannel(quiet=quiet)

    def ready(self) -> str | None:
        """Answers as soon as it is there, with the GPU that it has been given."""
        return os.environ.get("CUDA_VISIBLE_DEVICES") or None

    def ask(self, request: Event, timeout: float | None) -> Answer:
        """All that the worker answers, in the user's own names."""
        _own_threads()
        events: list[Event] = []
        death = None
        try:
            for event in self._channel.ask(self._names.outward(request), timeout):
                events.append(self._names.homeward(event))  # noqa: PERF401 - what came before it died is kept
        except WorkerDied as died:
            death = died.status, self._names.homeward(str(died))
        return events, death

    def fresh(self) -> None:
        self._channel.fresh()


def _swept_up(folder: Path) -> int:
    """A pipe, the end of which ends the folder: it closes when this process goes, however that happens.

    Whoever waits for that is no child of ours, since Ray ends those with an actor.
    """
    waiting, ending = os.pipe()
    sweep = 'exec 3<&0; { cat <&3; rm -rf -- "$0"; } &'  # by another number: what runs beside a shell has no input
    subprocess.run(["/bin/sh", "-c", sweep, str(folder)], stdin=waiting, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", check=True)  # fmt: skip
    os.close(waiting)
    return ending


def _own_threads() -> None:
    """Leave the number of threads to torch, as it is where no cluster stands between, unless somebody had set it on the
    node before: Ray sets it to the CPUs that it counts.
    """
    at_start = Path("/proc/self/environ")
    if at_start.exists() and f"\0{_THREADS}=".encode() not in b"\0" + at_start.read_bytes():
        os.environ.pop(_THREADS, None)
