"""How large the last-level cache of the host is, as Linux tells it."""

import os
from pathlib import Path

from attnbench.core.units import KIB, MIB
from attnbench.metrics.hardware import own_cpus

__all__ = ["last_level_bytes"]

_SYSTEM = Path("/sys/devices/system/cpu")
# Where nobody tells; most processors have less.
_USUAL = 32 * MIB
_UNITS = {"K": KIB, "M": MIB}


def last_level_bytes(threads: int, root: Path = _SYSTEM) -> int:
    """Bytes of all last-level caches that so many threads can use, each once however many cores share it."""
    found: dict[tuple[int, str], int] = {}
    for cpu in own_cpus() or range(os.cpu_count() or 1):
        for index in (root / f"cpu{cpu}" / "cache").glob("index*"):
            try:
                if (index / "type").read_text().strip() != "Instruction":
                    shared = (int((index / "level").read_text()), (index / "shared_cpu_list").read_text().strip())
                    found[shared] = _size((index / "size").read_text().strip())
            except (OSError, ValueError, KeyError):
                continue
    last = max((level for level, _ in found), default=0)
    sizes = sorted((size for (level, _), size in found.items() if level == last), reverse=True)
    return sum(sizes[: max(1, threads)]) or _USUAL


def _size(text: str) -> int:
    """`266240K`, `2M` or bytes."""
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1:].isalpha() else int(text)
