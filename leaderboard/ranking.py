"""Who stands where (pure): by robust test error, then robust test loss, with tie groups by a paired test."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from leaderboard.statistics import SIGNIFICANCE, mcnemar


@dataclass(frozen=True)
class Contestant:
    """What decides a rank; `robust` holds one character a test example, 1 when no attack broke it."""

    key: str
    robust_error: float
    robust_loss: float
    robust: str


@dataclass(frozen=True)
class Standing:
    """A rank, shared by equal numbers, and the best rank it cannot be told from."""

    rank: int
    tied_with: int


def rank(contestants: Iterable[Contestant]) -> dict[str, Standing]:
    """Return everybody's standing by key, best first; the order in which they come never matters.

    A tie group is led by its best; the next ones belong to it as long as McNemar's test cannot tell them from the
    leader at 5 % on the same test examples. The first that can be told apart leads the next group.
    """
    standings: dict[str, Standing] = {}
    leader: tuple[Contestant, int] | None = None
    previous: tuple[Contestant, int] | None = None
    for position, one in enumerate(sorted(contestants, key=lambda c: (*_numbers(c), c.key)), start=1):
        place = previous[1] if previous and _numbers(previous[0]) == _numbers(one) else position
        if leader is None or mcnemar(leader[0].robust, one.robust) < SIGNIFICANCE:
            leader = one, place
        standings[one.key] = Standing(place, leader[1])
        previous = one, place
    return standings


def pareto_front(points: Mapping[str, tuple[float, ...]]) -> frozenset[str]:
    """Return the keys of the points that no other beats: as low in every number, and lower in one."""
    front: list[tuple[float, ...]] = []
    for point in sorted(set(points.values())):  # whoever beats a point stands before it
        if not any(all(a <= b for a, b in zip(better, point, strict=True)) for better in front):
            front.append(point)
    best = set(front)
    return frozenset(key for key, point in points.items() if point in best)


def _numbers(one: Contestant) -> tuple[float, float]:
    return one.robust_error, one.robust_loss
