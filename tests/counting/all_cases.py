"""Every case counted by hand, in the order of the table: importing a family registers its cases."""

from importlib import import_module

from hand_case import CASES

__all__ = ["CASES"]

FAMILIES = ("products", "softmax", "linear", "gating", "mixing", "networks", "unusual")

for family in FAMILIES:
    import_module(f"cases_{family}")
