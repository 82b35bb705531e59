"""Answers requests about Cases with a stream of plain events: the same in a worker process and inline.

Requests are `hello` (which device, is it there), `free` (its memory), `resolve` (find the layout and the heads),
`measure`, `abilities` (what can be measured) and `peaks` (the device's roof). Events are dictionaries of JSON values,
so that they can cross a pipe; the last is always `done` or `usage`.
"""

import math
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from attnbench.core.case import Case
from attnbench.core.errors import CaseError, UsageError, first_line, named
from attnbench.core.record import Note
from attnbench.engine.channels import Event
from attnbench.engine.measure import measure
from attnbench.metrics.abilities import abilities
from attnbench.metrics.hardware import best_device, environment, free_bytes
from attnbench.metrics.metric import Finding, Options, chosen
from attnbench.metrics.roof.cache import measured_peaks
from attnbench.targets.resolve import resolve

__all__ = ["answer"]

# As many as torch took by itself: what nobody asked for is as it was, whatever an earlier request set.
_THREADS = torch.get_num_threads()


def answer(request: Event, *, inline: bool = False) -> Iterator[Event]:
    """The events that answer one request; nothing is raised but what ends the process anyway."""
    answers = {"hello": _hello, "resolve": _resolve, "measure": _measure, "free": _free, "abilities": _abilities,
               "peaks": _peaks}  # fmt: skip
    try:
        yield from answers[request["do"]](request)
    except UsageError as error:
        yield {"event": "usage", "text": str(error)}
    except CaseError as error:
        yield _done(error.status, str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        yield _done("oom", first_line(error))
    except NotImplementedError as error:
        yield _done("unsupported", first_line(error))
    except Exception as error:  # a module is foreign code and may fail in any way
        yield _done("oom" if _is_host_out_of_memory(error) else "error", _where(error))
    else:
        yield _done("ok", "")


def _done(status: str, reason: str) -> Event:
    return {"event": "done", "status": status, "reason": reason}


def _hello(request: Event) -> Iterator[Event]:
    device, dtypes = request["device"], request["dtypes"]
    if device == "auto":
        device = best_device()
    if device.startswith("cuda") and _needs_the_device(tuple(request["metrics"])):
        _require_cuda(device)
    if "tf32" in dtypes and not device.startswith("cuda"):
        raise UsageError("tf32 is a mode of CUDA's tensor cores: it needs --device cuda.")
    torch.set_num_threads(request["threads"] or _THREADS)
    yield {"event": "device", "device": device, "env": environment(device)}


def _needs_the_device(metrics: tuple[str, ...]) -> bool:
    """Whether an instrument runs on it; where there is no CUDA at all, the others count and predict for it."""
    return torch.cuda.is_available() or any(each.live for each in chosen(metrics))


def _require_cuda(device: str) -> None:
    if not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        raise UsageError(f"--device {device} cannot be used: {why}. Use --device cpu, or --metrics static to predict "
                         "what it would take.")  # fmt: skip
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: there are only {torch.cuda.device_count()} CUDA devices, from cuda:0.")


def _free(request: Event) -> Iterator[Event]:
    yield {"event": "free", "bytes": free_bytes(request["device"])}


def _resolve(request: Event) -> Iterator[Event]:
    case = Case.from_dict(request["case"])
    yield {"event": "env", "env": environment(case.device)}
    yield {"event": "case", "case": resolve(case).to_dict()}


def _measure(request: Event) -> Iterator[Event]:
    case = Case.from_dict(request["case"])
    options = Options(**{**request["options"], "metrics": tuple(request["options"]["metrics"])})
    yield {"event": "env", "env": environment(case.device)}
    for finding in measure(case, options):
        yield _event(finding)


def _abilities(request: Event) -> Iterator[Event]:
    yield {"event": "env", "env": environment(request["device"])}
    for name, found in abilities(request["device"], request["done"], quick=request["quick"]):
        yield {"event": "trying", "name": name} if found is None else {"event": "ability", "name": name} | asdict(found)


def _peaks(request: Event) -> Iterator[Event]:
    peaks = measured_peaks(request["device"], request["dtype"], fresh=request["fresh"])
    more = {"bytes_per_s": peaks.memory_bandwidth, "beyond_caches": peaks.beyond_caches}
    yield {"event": "peaks", "peaks": peaks.to_dict() | more}


def _event(finding: Finding) -> Event:
    if isinstance(finding, Note):
        return {"event": "note", "kind": finding.kind, "text": finding.text}
    if isinstance(finding.value, float) and not math.isfinite(finding.value):
        # JSON has no infinity, and a figure that is none is not to be printed as one.
        return {"event": "note", "kind": "not_measured", "text": f"{finding.name}: the instrument gave {finding.value}"}
    return {"event": "reading", "value": finding.value, **finding.describe()}


def _is_host_out_of_memory(error: Exception) -> bool:
    return "can't allocate memory" in str(error)


def _where(error: Exception) -> str:
    """What was raised, and the last place in the user's own code."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{named(error)}{place}"

