"""Machines in words: what tells the environments of records apart, and one GPU or host from others of its kind."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attnbench.core.record import Record

__all__ = ["device_name", "environments", "fingerprint", "gpu_naming", "host", "is_another_unit", "machine_names"]

# What a fingerprint is made of beside the device's name, in the order in which it is told.
_PARTS = {"torch": "torch {}", "cuda": "CUDA {}", "driver": "driver {}", "threads": "threads {}", "cpu": "{}",
          "cores": "{} cores", "python": "Python {}", "system": "{}", "malloc": "malloc {}", "ecc": "ECC {}",
          "mig": "MIG {}"}  # fmt: skip
_SHORT = 8


def fingerprint(record: Record) -> str:
    """Equal for records whose times may be compared; empty where the record does not know its machine."""
    return str(record.env.get("fingerprint") or "")


def device_name(record: Record) -> str:
    """`NVIDIA H200`; empty where nobody wrote it down, or it says no more than the device of the case."""
    name = str(record.env.get("device_name") or "")
    return "" if name == record.case.device else name


def host(record: Record) -> str | None:
    """The computer's name, where several were measured on."""
    name = record.env.get("host")
    return None if name is None else str(name)


def gpu_naming(records: Iterable[Record]) -> Callable[[Record], str | None]:
    """How the GPU of a record is called: by its number on its host or, where several bear that, by its identity."""
    seen: dict[tuple[str | None, str], str] = {}
    by_number = all(
        seen.setdefault((host(record), str(record.env.get("device_index"))), uuid) == uuid
        for record in records
        if (uuid := _identity(record)) is not None
    )
    return _number if by_number else lambda record: _identity(record) or _number(record)


def _number(record: Record) -> str | None:
    index = record.env.get("device_index")
    return _identity(record) if index is None else str(index)


def _identity(record: Record) -> str | None:
    uuid = record.env.get("device_uuid")
    return None if uuid is None else str(uuid).removeprefix("GPU-")[:_SHORT]


def is_another_unit(record: Record, other: Record) -> bool:
    """Whether two records of equal fingerprints are known to come from two GPUs, or from two hosts."""
    for name in ("device_uuid", "host", "device_index"):
        mine, theirs = record.env.get(name), other.env.get(name)
        if mine is not None and theirs is not None and (mine != theirs or name == "device_uuid"):
            return bool(mine != theirs)
    return False


def environments(records: Iterable[Record]) -> Mapping[str, str]:
    """What tells each fingerprint from the others of the same device, in words; empty where its name is enough."""
    kinds: dict[str, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        kinds.setdefault(device_name(record), {}).setdefault(fingerprint(record), record.env)
    return {mark: words for kind in kinds.values() for mark, words in _told_apart(kind).items()}


def machine_names(records: Iterable[Record]) -> Mapping[str, str]:
    """A name for each fingerprint, no two alike: `NVIDIA H200, torch 2.8.0`."""
    known = list(records)
    told = environments(known)
    devices = {fingerprint(record): str(record.env.get("device_name") or "") for record in known}
    parts = {mark: [part for part in (device, told[mark]) if part] for mark, device in devices.items()}
    return {mark: ", ".join(words) or "an unknown machine" for mark, words in parts.items()}


def _told_apart(kind: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """All that differs among the environments of one kind of device."""
    if len(kind) == 1:
        return dict.fromkeys(kind, "")
    differing = [part for part in _PARTS if len({str(env.get(part)) for env in kind.values()}) > 1]
    words = {mark: ", ".join(_words(env, differing)) for mark, env in kind.items()}
    alike = Counter(words.values())
    # An old record may not tell what made its fingerprint another one.
    return {mark: text if text and alike[text] == 1 else _unnamed(text, mark) for mark, text in words.items()}


def _words(env: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    values = ((part, env.get(part)) for part in parts)
    return [_PARTS[part].format({True: "on", False: "off"}[value] if isinstance(value, bool) else value)
            for part, value in values if value is not None]  # fmt: skip


def _unnamed(words: str, mark: str) -> str:
    return ", ".join([*([words] if words else []), f"fingerprint {mark[:_SHORT]}" if mark else "unknown"])
