"""What the pages read; every function costs the same few queries however many entries there are."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Prefetch

from evaluator.exceptions import InvalidRequest
from evaluator.metrics import METRICS, Metric
from evaluator.metrics import column as column_name
from evaluator.protocol import PROTOCOLS, EvaluationProtocol, find_protocol
from evaluator.results import Measurement as Number
from evaluator.types import Split
from leaderboard.analysis import PAPER, Evidence, Measured, Reported, Study
from leaderboard.models import Entry, ReportedResult, State, Submission
from leaderboard.ranking import Contestant, Standing, rank
from trainers.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class Column:
    """One column of numbers: a metric on a split, or a gap."""

    key: str
    metric: Metric
    split: Split | None

    @property
    def title(self) -> str:
        """What stands in the header, for example `RErr test`."""
        return f"{self.metric.symbol} {self.split}" if self.split else self.metric.symbol


COLUMNS: dict[str, Column] = {
    column_name(metric.key, split): Column(column_name(metric.key, split), metric, split)
    for metric in METRICS.values()
    for split in (tuple(Split) if metric.per_split else (None,))
}
"""Every column by its name in tables, JSON and CSV; a board has those of `protocol.columns()`."""

HEADLINE = (
    "robust_error_test",
    "robust_loss_test",
    "flatness_test",
    "clean_error_test",
    "robust_error_train",
    "robust_loss_gap",
    "flatness_train",
)
"""The columns a reader meets first, as far as they are measured, most decisive first; the rest is one link away."""


@dataclass(frozen=True)
class Row:
    """One entry as every view of the board shows it; `standing` is None where the protocol is never ranked."""

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


@dataclass(frozen=True)
class Board:
    """All published entries of one protocol in the order asked for."""

    protocol: EvaluationProtocol
    sort: str
    rows: tuple[Row, ...]
    as_of: datetime | None


_SORTS: dict[str, Callable[[Row], Any]] = {
    "rank": lambda row: row.standing and row.standing.rank,
    "title": lambda row: row.title.casefold(),
    "architecture": lambda row: row.architecture,
    "seconds": lambda row: row.seconds,
}


def board(protocol: EvaluationProtocol, sort: str = "rank") -> Board:
    """Return the board of `protocol` sorted by a column, descending with a leading minus; ties stand by rank.

    Raises:
        InvalidRequest: no column is called so.
    """
    name = sort.removeprefix("-")
    if name not in _SORTS and name not in protocol.columns():
        raise InvalidRequest(f"the board has no column {name!r}; it has {', '.join((*_SORTS, *protocol.columns()))}")
    entries = (
        Entry.objects.filter(submission__protocol_digest=protocol.digest)
        .select_related("submission")
        .prefetch_related(Prefetch("measurements", to_attr="numbers"))
    )
    rows = _rows(entries)
    rows.sort(key=lambda row: (row.standing.rank if row.standing else 0, row.slug))
    key = _SORTS.get(name, lambda row: row.numbers[name].value if name in row.numbers else None)
    known = [row for row in rows if key(row) is not None]
    known.sort(key=key, reverse=sort.startswith("-"))
    known += [row for row in rows if key(row) is None]
    return Board(protocol, sort, tuple(known), max((row.published_at for row in rows), default=None))


def submissions() -> dict[str, int]:
    """Return how many submissions are in each state."""
    counts = Submission.objects.values_list("state").annotate(count=Count("pk")).order_by()
    return dict.fromkeys(State.values, 0) | dict(counts)


def entry(slug: str) -> Entry | None:
    """Return the entry of a submission with its measurements, or None where none is published under `slug`."""
    return (
        Entry.objects.filter(submission__slug=slug)
        .select_related("submission")
        .prefetch_related("measurements")
        .first()
    )


def submission(slug: str) -> Submission | None:
    """Return the submission called `slug`, published or not."""
    return Submission.objects.filter(slug=slug).first()


def numbers(entry: Entry) -> dict[str, Number]:
    """Return an entry's numbers by column name, in the order in which the metrics are declared."""
    return _numbers(entry.measurements.all())


def protocols() -> dict[str, int]:
    """Return how many entries each rankable protocol has, in its newest version."""
    counted = dict(Entry.objects.values_list("submission__protocol_digest").annotate(Count("id")))
    newest = {name: versions[-1] for name, versions in PROTOCOLS.items()}
    return {name: counted.get(one.digest, 0) for name, one in newest.items() if one.rankable}


def reported() -> list[ReportedResult]:
    """Return the rows that others published."""
    return list(ReportedResult.objects.all())


def measured(protocol_name: str) -> list[Measured]:
    """Return what is published of our recipes under the newest version of a protocol.

    Of reference entries those count whose recipe is still what they were trained by. Where a training was repeated, the
    entry published last counts.
    """
    entries = (
        Entry.objects.filter(
            submission__protocol_digest=find_protocol(protocol_name).digest, submission__is_reference=True
        )
        .select_related("submission")
        .prefetch_related(Prefetch("measurements", to_attr="numbers"))
        .defer("stages", "versions", "robust_on_test", "submission__protocol")
        .order_by("submission__published_at", "id")
    )
    recipes: dict[str, Recipe | None] = {}
    found = {}
    for entry in entries:
        submission = entry.submission
        name, notes = submission.manifest["recipe"], submission.manifest["notes"]
        if name not in recipes:
            recipes[name] = _recipe(name)
        recipe = recipes[name]
        if recipe is not None and recipe.digest == notes.get("recipe_digest"):
            seed, epoch = int(notes["seed"]), int(notes["epoch"].split()[0])
            url, numbers = submission.get_absolute_url(), _numbers(entry.numbers)
            found[name, seed, epoch] = Measured(recipe, seed, epoch, submission.title, url, numbers)
    return list(found.values())


def evidence(study: Study) -> Evidence:
    """Return everything published of a study."""
    rows = ReportedResult.objects.filter(source=PAPER)
    return Evidence.of(
        study,
        find_protocol(study.protocol),
        final=measured(study.protocol),
        stopped=measured(study.stopped),
        curve=measured(study.curve),
        reported={row.position: Reported(row.method, row.values) for row in rows},
    )


def _recipe(name: str | None) -> Recipe | None:
    try:
        return load_recipe(name) if name else None
    except InvalidRequest:
        return None


def _rows(entries: Any) -> list[Row]:
    found = [(entry, _numbers(entry.numbers)) for entry in entries]
    standings = rank(
        Contestant(
            entry.submission.slug,
            numbers["robust_error_test"].value,
            numbers["robust_loss_test"].value,
            entry.robust_on_test,
        )
        for entry, numbers in found
        if entry.rankable
    )
    return [
        Row(
            slug=entry.submission.slug,
            title=entry.submission.title,
            url=entry.submission.get_absolute_url(),
            architecture=entry.submission.manifest["architecture"],
            is_reference=entry.submission.is_reference,
            stored_numbers=entry.submission.stored_numbers,
            seconds=entry.seconds,
            published_at=entry.submission.published_at,
            numbers=numbers,
            standing=standings.get(entry.submission.slug),
        )
        for entry, numbers in found
    ]


def _numbers(measurements: Any) -> dict[str, Number]:
    found = {
        number.column: number
        for number in (
            Number(m.metric, Split(m.split) if m.split else None, m.value, m.low, m.high, m.n) for m in measurements
        )
    }
    return {key: found[key] for key in COLUMNS if key in found}
