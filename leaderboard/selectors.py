"""What the pages read; every function costs the same few queries however many entries there are."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Min, Prefetch, Q

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import EvaluationProtocol, from_json
from evaluator.results import Measurement as Number
from evaluator.shipped import find_protocol
from evaluator.types import Split
from leaderboard.analysis import PAPER, Evidence, Measured, Reported, Study
from leaderboard.columns import COLUMNS, EARLY_STOPPED, stopped_of
from leaderboard.filters import ordered, orders
from leaderboard.listing import Row, listing, stamps
from leaderboard.models import Entry, ReportedResult, State, Submission
from leaderboard.reported import COLUMNS as REPORTED
from leaderboard.trainings import Key, Origin, Snapshot, Training, as_early_stopped
from trainers.recipe import Recipe, load_recipe

_SAME_RADIUS = 0.01
"""By this share two radii may differ and still be one threat model."""


@dataclass(frozen=True)
class Board:
    """All published entries of one protocol in the order asked for."""

    protocol: EvaluationProtocol
    sort: str
    rows: tuple[Row, ...]
    as_of: datetime | None


def board(protocol: EvaluationProtocol, sort: str = "rank") -> Board:
    """Return the board of `protocol` sorted by a column, descending with a leading minus; ties stand by rank.

    Raises:
        InvalidRequest: no column is called so.
    """
    if sort.removeprefix("-") not in orders(protocol):
        raise InvalidRequest(
            f"the board has no column {sort.removeprefix('-')!r}; it has {', '.join(orders(protocol))}"
        )
    found = listing(protocol, stamps())
    return Board(protocol, sort, ordered(found.rows, sort), found.as_of)


def submissions() -> dict[str, int]:
    """Return how many submissions are in each state."""
    counts = Submission.objects.values_list("state").annotate(count=Count("pk")).order_by()
    return dict.fromkeys(State.values, 0) | dict(counts)


def first_published() -> dict[str, datetime]:
    """Return since when entries stand under each protocol that has any, by digest."""
    digests = Entry.objects.values_list("submission__protocol_digest")
    return dict(digests.annotate(Min("submission__published_at")).order_by())


def entry(slug: str) -> Entry | None:
    """Return the entry of a submission with its measurements, or None where none is published under `slug`."""
    return (
        Entry.objects.filter(submission__slug=slug)
        .select_related("submission")
        .prefetch_related("measurements")
        .first()
    )


def shape(submission: Submission) -> Entry | None:
    """Return the entry published last that has curves of the same checkpoint, or None where none has."""
    same = Entry.objects.filter(submission__checkpoint_sha256=submission.checkpoint_sha256).exclude(curves=[])
    return same.select_related("submission").order_by("-submission__published_at", "-pk").first()


def compared(slugs: Sequence[str]) -> dict[str, Entry]:
    """Return the published entries among `slugs` with their measurements, in that order."""
    entries = Entry.objects.filter(submission__slug__in=slugs).select_related("submission")
    found = {entry.submission.slug: entry for entry in entries.prefetch_related("measurements")}
    return {slug: found[slug] for slug in slugs if slug in found}


def recipe_of(submission: Submission) -> Recipe | None:
    """Return the recipe that a reference entry was trained by, or None where it is not that any more."""
    if not submission.is_reference:
        return None
    recipe = _recipe(submission.manifest["recipe"])
    return recipe if recipe is not None and recipe.digest == submission.manifest["notes"].get("recipe_digest") else None


def origin_of(submission: Submission) -> Origin | None:
    """Return where a reference entry comes from, or None for what others handed in, whatever that says of itself."""
    return Origin.of(submission.manifest) if submission.is_reference else None


def trainings(submissions: Iterable[Submission]) -> list[Training | None]:
    """Return, for each submission, all that is published of the training it comes from; None where it is none of ours.

    All of a training share the digest of their recipe and the seed, whatever protocol measured them.
    """
    origins = [origin_of(one) for one in submissions]
    known = [origin for origin in origins if origin]
    if not known:
        return [None] * len(origins)
    asked, notes = Q(), "submission__manifest__notes"
    for origin in known:
        asked |= Q(**{f"{notes}__recipe_digest": origin.digest, f"{notes}__seed": str(origin.seed)})
    entries = (
        Entry.objects.filter(asked, submission__is_reference=True)
        .select_related("submission")
        .prefetch_related(Prefetch("measurements", to_attr="numbers"))
        .defer("stages", "versions", "findings", "robust_on_test", "submission__protocol")
        .order_by("submission__published_at", "id")
    )
    found: dict[Key, list[Snapshot]] = {origin.training: [] for origin in known}
    for entry in entries:
        one = entry.submission
        if (origin := origin_of(one)) is not None and origin.training in found:
            snapshot = Snapshot(
                origin, one.slug, one.title, one.get_absolute_url(), one.protocol_name, one.protocol_version,
                one.protocol_digest, _numbers(entry.numbers),
            )  # fmt: skip  # what is copied stands on few lines
            found[origin.training].append(snapshot)
    return [Training(origin.training, tuple(found[origin.training])) if origin else None for origin in origins]


def early_stopped(entry: Entry, training: Training | None) -> Snapshot | None:
    """Return the snapshot whose robust error is the early-stopped one of an entry's training, by the entry's board."""
    origin = origin_of(entry.submission)
    protocol = from_json(json.dumps(entry.submission.protocol))
    if training is None or origin is None or not stopped_of(protocol):
        return None
    if origin.early_stopped:
        return next((one for one in training.snapshots if one.slug == entry.submission.slug), None)
    return training.early_stopped(protocol)


def submission(slug: str) -> Submission | None:
    """Return the submission called `slug`, published or not."""
    return Submission.objects.filter(slug=slug).first()


def numbers(entry: Entry, training: Training | None = None) -> dict[str, Number]:
    """Return an entry's numbers, and what its training adds, by column in the order in which metrics are declared."""
    snapshot = early_stopped(entry, training)
    found = snapshot and snapshot.numbers.get("robust_error_test")
    return _numbers(entry.measurements.all()) | ({EARLY_STOPPED.key: as_early_stopped(found)} if found else {})


@dataclass(frozen=True)
class ReportedTable:
    """Rows of one source in one setting, each with its numbers by column; columns, with titles, that any row fills."""

    source: str
    setting: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[ReportedResult, tuple[tuple[str, float | None], ...]], ...]

    @property
    def described(self) -> bool:
        """Whether it is known what networks and papers the rows are about."""
        return any(row.architecture or row.title for row, _ in self.rows)


def reported() -> list[ReportedResult]:
    """Return the rows that others published."""
    return list(ReportedResult.objects.all())


def reported_under(protocol: EvaluationProtocol) -> list[ReportedResult]:
    """Return the rows on the data set of a protocol against its threat model, 8/255 and 0.0314 being the same."""
    threat = protocol.threat_model
    near = (threat.epsilon * (1 - _SAME_RADIUS), threat.epsilon * (1 + _SAME_RADIUS))
    return list(ReportedResult.objects.filter(dataset=protocol.dataset, norm=threat.norm, epsilon__range=near))


def tables(rows: Iterable[ReportedResult]) -> list[ReportedTable]:
    """Return reported rows as tables, in their order."""
    found: dict[tuple[str, str], list[ReportedResult]] = {}
    for row in rows:
        found.setdefault((row.source, row.setting), []).append(row)
    return [_table(*named, of_one) for named, of_one in found.items()]


def _table(source: str, setting: str, rows: list[ReportedResult]) -> ReportedTable:
    columns = tuple((name, title) for name, title in REPORTED.items() if any(name in row.values for row in rows))
    cells = tuple((row, tuple((name, row.values.get(name)) for name, _ in columns)) for row in rows)
    return ReportedTable(source, setting, columns, cells)


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
        .defer("stages", "versions", "curves", "robust_on_test", "submission__protocol")
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


def _numbers(measurements: Any) -> dict[str, Number]:
    found = {
        number.column: number
        for number in (
            Number(m.metric, Split(m.split) if m.split else None, m.value, m.low, m.high, m.n) for m in measurements
        )
    }
    return {key: found[key] for key in COLUMNS if key in found}
