"""The executor of this machine: a lane for each device that was named, or a single one."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from attnbench.core.errors import UsageError
from attnbench.engine.executors.executor import Lane, Wanted
from attnbench.engine.workers.channels import Channel, InlineChannel, WorkerChannel

__all__ = ["lanes", "spelled_out"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def lanes(wanted: Wanted) -> Iterator[Sequence[Lane]]:
    """One lane for each of the devices; without them one, on the device that the Cases say."""
    if wanted.address is not None:
        raise UsageError("--address is of a cluster: add --executor ray.")
    if not wanted.devices:
        yield [Lane("", partial(_channel, wanted, {}))]
        return
    if wanted.isolation == "none":
        raise UsageError("--devices needs worker processes: leave --no-isolate away.")
    yield [_lane(device, number, wanted) for number, device in enumerate(wanted.devices)]


def _channel(wanted: Wanted, env: Mapping[str, str]) -> Channel:
    return InlineChannel() if wanted.isolation == "none" else WorkerChannel(quiet=wanted.quiet, env=env)


def _lane(device: str, number: int, wanted: Wanted) -> Lane:
    """A GPU is the only one that its worker sees, so that the question is the same on each: `cuda`."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        several = len(wanted.devices) > 1
        return Lane(f"cpu, worker {number + 1}" if several else "cpu", partial(_channel, wanted, {}), "cpu")
    env = {_VISIBLE: _as_seen_from_outside(int(index or 0), os.environ.get(_VISIBLE))}
    return Lane(device, partial(_channel, wanted, env), kind, facts={"device_index": int(index or 0)})


def _as_seen_from_outside(index: int, visible: str | None) -> str:
    """The GPU's name for a process to which no GPU is hidden, when `visible` are those that this one sees."""
    if visible is None:
        return str(index)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if index >= len(names):
        raise UsageError(f"--devices cuda:{index}: {_VISIBLE}={visible} leaves {len(names)} to be seen, from cuda:0.")
    return names[index]


def spelled_out(texts: Sequence[str]) -> tuple[str, ...]:
    """Devices as typed, `cuda:0-3` as four of them.

    Raises:
        UsageError: one is none, a GPU is named twice, or GPUs stand beside CPUs.
    """
    devices = tuple(device for text in texts for device in _spelled_out(text))
    twice = [device for device in devices if device != "cpu" and devices.count(device) > 1]
    if twice:
        raise UsageError(f"--devices names {twice[0]} twice: a GPU is for one worker alone.")
    if len({device.partition(":")[0] for device in devices}) > 1:
        raise UsageError("--devices with both cpu and cuda: measure them in two runs, since cases are shared out.")
    return devices


def _spelled_out(text: str) -> list[str]:
    if text == "cpu":
        return [text]
    found = re.fullmatch(r"cuda:(\d{1,4})(?:-(\d{1,4}))?", "cuda:0" if text == "cuda" else text)
    if found is None:
        raise UsageError(f"--devices {text!r} is unknown: use cuda:0, cuda:0-3, or cpu (repeated: side by side).")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise UsageError(f"--devices {text}: the last one comes before the first.")
    return [f"cuda:{index}" for index in range(first, last + 1)]
