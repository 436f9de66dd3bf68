"""Where the labels of points go, so that they cover neither points nor each other (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FONT_SIZE = 12
_CHARACTER_WIDTH = 0.58 * FONT_SIZE

_STEPS = 8
"""A line is left free at so many points between two corners."""

_Box = tuple[float, float, float, float]


@dataclass(frozen=True, order=True)
class Place:
    """A label's anchor as offset from its point, and which of its ends stands there."""

    align: str
    dx: int
    dy: int


_PLACES = (
    Place("left", 8, -9), Place("right", -8, -9), Place("left", 8, 9), Place("right", -8, 9),
    Place("left", 8, -22), Place("right", -8, -22), Place("left", 8, 22), Place("right", -8, 22),
)  # fmt: skip


def place_labels(
    labels: Sequence[str],
    centers: Sequence[tuple[float, float]],
    frame: tuple[int, int],
    line: Sequence[tuple[float, float]] = (),
) -> list[Place]:
    """Return the place of each label: the first of eight that covers least of what is already there.

    `centers` are the points in pixels from the upper left corner of a `frame` of (width, height), `line` the corners of
    a line that is to be left free as well.
    """
    between = [
        (x + step / _STEPS * (to_x - x), y + step / _STEPS * (to_y - y))
        for (x, y), (to_x, to_y) in pairwise(line)
        for step in range(_STEPS + 1)
    ]
    taken: list[_Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in (*centers, *between)]
    places = []
    for label, center in zip(labels, centers, strict=True):
        boxes = [(_box(label, center, place), place) for place in _PLACES]
        box, place = min(boxes, key=lambda one: _cost(one[0], taken, frame))
        taken.append(box)
        places.append(place)
    return places


def _box(label: str, center: tuple[float, float], place: Place) -> _Box:
    width = _CHARACTER_WIDTH * len(label)
    left = center[0] + place.dx - (0 if place.align == "left" else width)
    middle = center[1] + place.dy
    return left, middle - FONT_SIZE / 2, left + width, middle + FONT_SIZE / 2


def _cost(box: _Box, taken: Sequence[_Box], frame: tuple[int, int]) -> float:
    beyond = (-box[0], box[2] - frame[0], -box[1], box[3] - frame[1])
    return sum(_overlap(box, other) for other in taken) + 100 * sum(max(0.0, part) for part in beyond)


def _overlap(one: _Box, other: _Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
