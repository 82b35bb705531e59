"""The executor of a Ray cluster: finds the library and the cluster, and gives the lanes of its machines."""

import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import chdir, closing, contextmanager
from importlib import import_module
from typing import Any

from attnbench.core.errors import UsageError
from attnbench.engine.executors.cluster import Cluster
from attnbench.engine.executors.executor import Lane, Wanted
from attnbench.engine.executors.travel import packed

__all__ = ["lanes"]

# Seconds for a connection to where a cluster is said to be; Ray itself tries for two minutes.
_TO_CONNECT = 5.0
_DEVICES = ("auto", "cpu", "cuda")
_SAYS = "_worker_logs_enabled"


@contextmanager
def lanes(wanted: Wanted) -> Iterator[Sequence[Lane]]:
    """A lane for each GPU of the cluster that is free, or for each of its nodes where the Cases are for a CPU.

    It is the cluster at the address, else the one that this machine belongs to, else one made of this machine alone.

    Raises:
        UsageError: Ray or the cluster is not there, or a node is not set up as this machine is.
        CannotJudgeError: all that could measure is in use.
    """
    if wanted.devices:
        raise UsageError("--devices are of this machine: leave it away, --executor ray takes each GPU of the cluster.")
    if wanted.device not in _DEVICES:
        raise UsageError(f"--executor ray measures on one kind of device, --device {', '.join(_DEVICES)}: "
                         f"not on {wanted.device}.")  # fmt: skip
    parcel = packed(wanted.targets)
    ray = _library()
    with _connected(ray, wanted.address), closing(Cluster(ray, parcel, wanted)) as cluster:
        yield cluster.lanes()


def _library() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what is measured here is nobody else's affair
    try:
        return import_module("ray")
    except ImportError as error:
        raise UsageError(f"--executor ray needs Ray: pip install 'attnbench[ray]' ({error}).") from error


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """A connection that is let go in the end, unless it was there before: then it belongs to who runs this."""
    if ray.is_initialized():
        yield
        return
    _reach(address or os.environ.get("RAY_ADDRESS", ""))
    with _silent(ray):
        try:
            with _as_it_was(), warnings.catch_warnings(action="ignore"):
                ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (Exception, SystemExit) as error:
            raise UsageError(f"the Ray cluster cannot be used: {' '.join(str(error).split())}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _reach(address: str) -> None:
    """See that somebody listens there; an address of another form is for Ray to read."""
    if address.startswith("ray://"):
        raise UsageError(f"{address} is for Ray Client: call attnbench on a machine of the cluster, with the address "
                         "HOST:PORT of its head, or with none.")  # fmt: skip
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TO_CONNECT).close()
    except OSError as error:
        raise UsageError(f"no Ray cluster answers at {address} ({error.strerror or error}): give --address HOST:PORT "
                         "of the machine where `ray start --head` was called.") from error  # fmt: skip


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Ray puts its own handler for SIGTERM, and the nodes look for modules in the working directory first: a file of
    the user's that is called queue.py must not stand in for the standard library's.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with chdir("/"):
            yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Ray tells of each process that dies on standard output, where tables and JSON go; records say it too.

    There is no option for it but this switch, which a later version may not have.
    """
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    if not hasattr(worker, _SAYS):
        yield
        return
    before = getattr(worker, _SAYS)
    setattr(worker, _SAYS, False)
    try:
        yield
    finally:
        setattr(worker, _SAYS, before)
