"""How much memory a Case may take where it is measured: the one rule for a run, which refuses, and for its forecast."""

__all__ = ["MARGIN", "room"]

# Of what is free on the host, this much is left to everything else.
MARGIN = 0.05


def room(device: str, free: int | None, limit: int | None = None) -> int | None:
    """Bytes that a Case may take on the device when so many are `free`, and `limit` (--mem-limit) is the most.

    A host begins to swap before it is full; a GPU only refuses what it has not. None where nothing is known.
    """
    if free is not None and not device.startswith("cuda"):
        free = int(free * (1 - MARGIN))
    known = [each for each in (free, limit) if each is not None]
    return min(known, default=None)
