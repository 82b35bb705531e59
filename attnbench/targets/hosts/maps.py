"""Whether the sides of a map, or a number of tokens, are those of an image seen through patches."""

from collections.abc import Iterator

__all__ = ["Sides", "grid", "is_map"]

Sides = tuple[int, int]
# More tokens than this before those of the patches have not been seen: one for the class, one for a teacher, registers.
_MOST_PREFIX = 16


def is_map(sizes: tuple[int, ...], image: Sides) -> bool:
    """Whether it is (B, C, H, W): four axes of which the middle two are not those of the image's maps, as they are in
    (B, H, W, C)."""
    maps = set(_strided(image))
    return len(sizes) == 4 and (sizes[2:] in maps or sizes[1:3] not in maps)


def grid(tokens: int, image: Sides, hint: int = 0) -> tuple[Sides, int] | None:
    """Height and width of the map that the tokens are, and how many of them stand before it.

    `hint` of them before the map are tried first, then the fewest. Many before a map whose stride does not divide the
    image would fit by chance, and are not taken; None where no map fits.
    """
    maps = {height * width: (height, width) for height, width in _strided(image)}
    for before in (hint, *range(_MOST_PREFIX + 1)):
        patches = tokens - before
        if patches in maps and patches > before and (before in (0, 1, 2, hint) or _divides(maps[patches], image)):
            return maps[patches], before
    return None


def _divides(sides: Sides, image: Sides) -> bool:
    return image[0] % sides[0] == 0 and image[1] % sides[1] == 0


def _strided(image: Sides) -> Iterator[Sides]:
    """The sides of the image's maps, largest stride first, so that where two fit the smaller stride is kept."""
    height, width = image
    for stride in range(max(image), 0, -1):
        yield max(1, height // stride), max(1, width // stride)
        yield -(-height // stride), -(-width // stride)
