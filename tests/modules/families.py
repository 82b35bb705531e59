"""What each family brings to the tests that run over the whole catalogue: one file `family_<family>.py` each."""

import importlib
from pathlib import Path
from types import ModuleType

__all__ = ["FAMILIES", "gathered"]

FAMILIES: list[ModuleType] = [
    importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("family_*.py"))
]


def gathered(name: str) -> list[object]:
    """What every family file says under that name: the items of its lists, the pairs of its mappings."""
    found: list[object] = []
    for family in FAMILIES:
        items = getattr(family, name, ())
        found += items.items() if isinstance(items, dict) else items
    return found
