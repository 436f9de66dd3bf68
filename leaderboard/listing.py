"""All published entries of a protocol as rows: read once for each state of the database, then kept in memory.

Ranks, tie groups and the Pareto front are about all entries, so one changed entry may move every other. A request
compares one stamp and computes nothing of the kind; five thousand entries keep some 60 MB a process.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from threading import Lock
from typing import Any

from django.db.models import Count, Max, Sum

from evaluator.exceptions import InvalidRequest
from evaluator.metrics import METRICS, column
from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement as Number
from evaluator.trust.findings import Verdict
from evaluator.types import Split
from leaderboard.models import Entry, Measurement
from leaderboard.ranking import Contestant, Standing, pareto_front, rank
from trainers.recipe import load_recipe

FRONT = ("robust_error_test", "clean_error_test", "flatness_test")
"""By which numbers the Pareto front is drawn; an entry without one of them stands outside."""

_ORDER = {name: place for place, name in enumerate(name for metric in METRICS.values() for name in metric.columns())}


@dataclass(frozen=True)
class Row:
    """One entry as every view of the board shows it; `standing` is None where it is not ranked."""

    slug: str
    title: str
    url: str
    architecture: str
    is_reference: bool
    stored_numbers: int
    seconds: float
    published_at: datetime
    numbers: dict[str, Number]
    standing: Standing | None
    checkpoint: str
    extra_data: str
    flags: tuple[str, ...]
    on_front: bool
    facets: dict[str, str]
    text: str
    """Lower-case words that a search looks through."""


@dataclass(frozen=True)
class Stamp:
    """Which entries a protocol has and when the last of them changed; who changes one touches its `updated_at`."""

    count: int
    ids: int
    changed: datetime


@dataclass(frozen=True)
class Listing:
    """All entries of one protocol by rank, then title; unranked ones stand last. `counts` are by facet and value."""

    rows: tuple[Row, ...]
    counts: dict[str, Counter[str]]
    as_of: datetime | None


_kept: dict[str, tuple[Stamp | None, Listing]] = {}
_reading = Lock()


def stamps() -> dict[str, Stamp]:
    """Return the stamp of every protocol that has entries, by digest."""
    rows = Entry.objects.values_list("submission__protocol_digest").annotate(
        Count("id"), Sum("id"), Max("submission__updated_at")
    )
    return {digest: Stamp(*of_all) for digest, *of_all in rows}


def listing(protocol: EvaluationProtocol, stamp: Stamp | None) -> Listing:
    """Return the entries of `protocol` as they were at `stamp`, or later."""
    if protocol.digest not in _kept or _kept[protocol.digest][0] != stamp:
        with _reading:  # others wait for the same rows instead of reading them as well
            if protocol.digest not in _kept or _kept[protocol.digest][0] != stamp:
                _kept[protocol.digest] = stamp, _read(protocol)
    return _kept[protocol.digest][1]


def _read(protocol: EvaluationProtocol) -> Listing:
    entries = list(
        Entry.objects.filter(submission__protocol_digest=protocol.digest)
        .select_related("submission")
        .defer("versions", "submission__protocol")
    )
    numbers = _numbers(protocol)
    ranked = [entry for entry in entries if entry.rankable and Verdict.FAIL not in _verdicts(entry)]
    standings = rank(
        Contestant(
            entry.submission.slug,
            numbers[entry.pk]["robust_error_test"].value,
            numbers[entry.pk]["robust_loss_test"].value,
            entry.robust_on_test,
        )
        for entry in ranked
    )
    front = pareto_front(
        {
            entry.submission.slug: tuple(numbers[entry.pk][name].value for name in FRONT)
            for entry in ranked
            if numbers[entry.pk].keys() >= set(FRONT)
        }
    )
    rows = [_row(entry, numbers[entry.pk], standings, front) for entry in entries]
    rows.sort(key=lambda row: (row.standing.rank if row.standing else len(rows) + 1, row.title.casefold(), row.slug))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for name, value in row.facets.items():
            counts[name][value] += 1
    return Listing(tuple(rows), dict(counts), max((row.published_at for row in rows), default=None))


def _row(entry: Entry, numbers: dict[str, Number], standings: dict[str, Standing], front: frozenset[str]) -> Row:
    submission = entry.submission
    architecture, recipe = submission.manifest["architecture"], submission.manifest["recipe"]
    extra_data = _extra_data(recipe if submission.is_reference else None)
    verdicts = _verdicts(entry)
    flags = tuple(one["sentence"] for one in entry.findings if one["verdict"] != Verdict.PASS)
    flags += tuple(dict.fromkeys(text for stage in entry.stages for text in stage["warnings"]))
    trust = "failed" if Verdict.FAIL in verdicts else "flagged" if flags else "no flags"
    return Row(
        slug=submission.slug,
        title=submission.title,
        url=submission.get_absolute_url(),
        architecture=architecture,
        is_reference=submission.is_reference,
        stored_numbers=submission.stored_numbers,
        seconds=entry.seconds,
        published_at=submission.published_at,
        numbers=numbers,
        standing=standings.get(submission.slug),
        checkpoint=submission.checkpoint_sha256,
        extra_data=extra_data,
        flags=flags,
        on_front=submission.slug in front,
        facets={
            "architecture": architecture,
            "data": extra_data,
            "division": "reference" if submission.is_reference else "submitted",
            "trust": trust,
        },
        text=" ".join((submission.title, submission.slug, architecture, recipe or "")).casefold(),
    )


def _verdicts(entry: Entry) -> set[str]:
    return {finding["verdict"] for finding in entry.findings}


@lru_cache(maxsize=1024)
def _extra_data(recipe: str | None) -> str:
    """Return what was trained on beside the data set, as far as one of our own recipes says so."""
    try:
        source = load_recipe(recipe).source if recipe else None
    except InvalidRequest:
        source = None
    return "not stated" if source is None else "unlabeled images" if source.kind == "unlabeled" else "none"


def _numbers(protocol: EvaluationProtocol) -> dict[int, dict[str, Number]]:
    """Return the numbers of all entries by column, in the order in which the metrics are declared."""
    found: dict[int, list[Any]] = defaultdict(list)
    rows = Measurement.objects.filter(entry__submission__protocol_digest=protocol.digest).order_by()
    for entry, metric, split, *values in rows.values_list("entry_id", "metric", "split", "value", "low", "high", "n"):
        of = Split(split) if split else None
        found[entry].append((column(metric, of), Number(metric, of, *values)))
    return {entry: dict(sorted(each, key=lambda one: _ORDER[one[0]])) for entry, each in found.items()}
