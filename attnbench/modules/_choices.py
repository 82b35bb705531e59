"""Hyper-parameters that are one of a few words; another word is refused in one sentence."""

__all__ = ["one_of"]


def one_of(name: str, value: str, *choices: str) -> str:
    """The value of the hyper-parameter of that name; ValueError, with all choices, when it is none of them."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is none of {', '.join(choices)}")
    return value
