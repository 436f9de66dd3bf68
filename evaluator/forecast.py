"""When a run should be done, judged by what its own shards and other runs of its protocol took (pure, torch-free)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from evaluator.metrics import StageName
from evaluator.store import Pace, Turn


@dataclass(frozen=True)
class Forecast:
    """Between how many seconds a run should still take, as the queue and the workers are now."""

    low: float
    high: float


def position(run_id: UUID, turns: Sequence[Turn]) -> int | None:
    """Return the place of a run among those that wait, 1 for the next one; None where no part of it waits any more."""
    waiting = [turn.run_id for turn in turns if turn.waiting]
    return waiting.index(run_id) + 1 if run_id in waiting else None


def forecast(run_id: UUID, turns: Sequence[Turn], paces: Sequence[Pace], *, workers: int) -> Forecast | None:
    """Return how long a run should still take; None where nothing is known of it or what stands before it.

    An example costs what it cost in the run itself; in a stage of which nothing is done yet, what it cost in other runs
    of the same protocol, between the quickest and the slowest of them. At best all workers serve the run and what they
    hold is nearly done; at worst they begin what they hold, and serve first whatever may be served before it.
    """
    mine = next((turn for turn in turns if turn.run_id == run_id), None)
    if mine is None or workers < 1:
        return None
    before = [turn if _may_go_before(turn, mine) else replace(turn, waiting={}) for turn in turns if turn is not mine]
    own, others = _work([mine], paces), _work(before, paces)
    return None if own is None or others is None else Forecast(own.low / workers, (own.high + others.high) / workers)


def forecast_all(turns: Sequence[Turn], paces: Sequence[Pace], *, workers: int) -> Forecast | None:
    """Return how long all that waits and runs should still take; None where nothing is known of a part of it."""
    work = _work(turns, paces)
    return None if work is None or workers < 1 else Forecast(work.low / workers, work.high / workers)


def _work(turns: Iterable[Turn], paces: Iterable[Pace]) -> Forecast | None:
    """Return what is left of some runs in seconds of one worker; at best nothing is left of what is held."""
    cost = _costs(paces)
    low = high = 0.0
    for turn in turns:
        for stage in StageName:
            held, waiting = turn.held.get(stage, 0), turn.waiting.get(stage, 0)
            known = cost.get((turn.run_id, stage)) or cost.get((turn.protocol_digest, stage))
            if known:
                low += waiting * min(known)
                high += (held + waiting) * max(known)
            elif held + waiting and stage is not StageName.PREVIEW:  # it takes little beside the rest of its run
                return None
    return Forecast(low, high)


def _may_go_before(other: Turn, mine: Turn) -> bool:
    """Whether shards of another run may be served before: owners take turns, and each owner's runs go by age."""
    if other.priority != mine.priority:
        return other.priority > mine.priority
    return other.owner != mine.owner or (other.created_at, other.run_id) < (mine.created_at, mine.run_id)


def _costs(paces: Iterable[Pace]) -> dict[tuple[UUID | str, StageName], list[float]]:
    """Return the seconds of an example by run and stage, and all of them by protocol digest and stage."""
    costs: defaultdict[tuple[UUID | str, StageName], list[float]] = defaultdict(list)
    for pace in paces:
        for key in (pace.run_id, pace.protocol_digest):
            costs[key, pace.stage].append(pace.seconds / pace.examples)
    return dict(costs)
