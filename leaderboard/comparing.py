"""What is known of a few entries together: numbers, paired tests, outcomes of attacks, recipes, circumstances."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from urllib.parse import urlencode
from uuid import UUID

from evaluator.combine import robust_loss_by_example
from evaluator.exceptions import InvalidResult, StoreUnavailable
from evaluator.metrics import StageName
from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement as Number
from evaluator.shipped import PROTOCOLS
from evaluator.types import Split
from leaderboard import selectors, services
from leaderboard.charts import short
from leaderboard.columns import COLUMNS
from leaderboard.comparison_chart import LETTERS, MOST, Compared
from leaderboard.curves import Curves, of_several
from leaderboard.listing import Row, listing, stamps
from leaderboard.models import Entry
from leaderboard.pairs import Losses, Pair, pairs
from leaderboard.trainings import Key, Training
from trainers.differences import side_by_side

_LONGEST = 120


@dataclass(frozen=True)
class Comparison:
    """The entries that a query asks for and that can stand side by side, and a sentence for each that cannot."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    protocol: EvaluationProtocol | None
    """Under which all of them were measured; None where there are none."""

    @cached_property
    def rows(self) -> dict[str, Row]:
        """What the board says of all entries of the protocol, by slug and rank."""
        found = listing(self.protocol, stamps()).rows if self.protocol else ()
        return {row.slug: row for row in found}

    @cached_property
    def trainings(self) -> list[Training | None]:
        """The training that each of them comes from, where it is one of ours."""
        return selectors.trainings([entry.submission for entry in self.entries])

    @cached_property
    def curves(self) -> tuple[Curves, ...]:
        """Their trainings from epoch to epoch; entries of one training share a line."""
        of_training = {one.key: one for one in self.trainings if one}
        letters: dict[Key, list[str]] = {key: [] for key in of_training}
        titles: dict[Key, str] = {}
        for letter, entry, training in zip(LETTERS, self.entries, self.trainings, strict=False):
            if training:
                letters[training.key].append(letter)
                titles.setdefault(training.key, entry.submission.title)
        return of_several({f"{', '.join(letters[k])} · {short(titles[k])}": one for k, one in of_training.items()})

    @cached_property
    def numbers(self) -> dict[str, list[Number | None]]:
        """Every number that one of them has, by column."""
        found = [
            selectors.numbers(entry, training) for entry, training in zip(self.entries, self.trainings, strict=True)
        ]
        return {key: [each.get(key) for each in found] for key in COLUMNS if any(key in each for each in found)}

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every two of them on the same examples."""
        robust = {slug(entry): entry.robust_on_test for entry in self.entries}
        losses = {slug(entry): _losses_or_none(entry.run_id, self.protocol) for entry in self.entries}
        return pairs(robust, {slug: loss for slug, loss in losses.items() if loss is not None})

    @property
    def outcomes(self) -> dict[Split, list[dict[str, int]]]:
        """How many examples of a split each attack broke first, entry by entry."""
        found = {
            split: [
                next(
                    (s["outcomes"] for s in entry.stages if (s["stage"], s["split"]) == (StageName.AUTOATTACK, split)),
                    {},
                )
                for entry in self.entries
            ]
            for split in Split
        }
        return {split: counts for split, counts in found.items() if any(counts)}

    @property
    def settings(self) -> dict[str, tuple[str, ...]] | None:
        """In what the recipes differ; None where one of them was not trained by a recipe of this site."""
        recipes = [selectors.recipe_of(entry.submission) for entry in self.entries]
        known = [recipe for recipe in recipes if recipe is not None]
        return side_by_side(known) if len(known) == len(recipes) else None

    @property
    def facts(self) -> dict[str, list[str]]:
        """What else each of them is and what it was measured with."""
        libraries = sorted({library for entry in self.entries for library in entry.versions})
        return {
            "Architecture": [entry.submission.manifest["architecture"] for entry in self.entries],
            "Recipe": [entry.submission.manifest["recipe"] or "" for entry in self.entries],
            "Checkpoint sha256": [entry.submission.checkpoint_sha256 for entry in self.entries],
            "Seed of the measurement": [str(entry.seed) for entry in self.entries],
            "Devices": [_said(entry, "devices") for entry in self.entries],
            "Sandboxes": [_said(entry, "sandboxes") for entry in self.entries],
            **{
                library: [", ".join(entry.versions.get(library, ())) for entry in self.entries] for library in libraries
            },
        }

    @property
    def query(self) -> str:
        """What leads here again."""
        return query([slug(entry) for entry in self.entries])

    @property
    def compared(self) -> tuple[Compared, ...]:
        """What the chart shows."""
        return tuple(
            Compared(entry.submission.title, entry.submission.get_absolute_url(), tuple(
                (key, found) for key, cells in self.numbers.items() if (found := cells[position])
            ))
            for position, entry in enumerate(self.entries)
        )  # fmt: skip


def compare(asked: Iterable[str]) -> Comparison:
    """Return the comparison of the published entries with the slugs `asked` for, as far as they go together."""
    slugs = list(dict.fromkeys(name.strip() for name in asked if name.strip()))
    notes = []
    if len(slugs) > MOST:
        notes.append(f"{MOST} entries can stand side by side, you asked for {len(slugs)}: these are the first {MOST}.")
        slugs = slugs[:MOST]
    found = selectors.compared([name for name in slugs if len(name) <= _LONGEST and name.isprintable()])
    notes += [
        f"No published entry is called {name[:_LONGEST]!r}; take the name in the address of its page."
        for name in slugs
        if name not in found
    ]
    known = {protocol.digest: protocol for versions in PROTOCOLS.values() for protocol in versions}
    protocol = next((known[digest] for digest in map(_digest, found.values()) if digest in known), None)
    together = tuple(entry for entry in found.values() if protocol and _digest(entry) == protocol.digest)
    notes += [
        f"{entry.submission} cannot be compared with the others and is left out: numbers of two protocols differ."
        for entry in found.values()
        if entry not in together
    ]
    return Comparison(together, tuple(notes), protocol)


def slug(entry: Entry) -> str:
    """Return what an entry is called in addresses."""
    return entry.submission.slug


def query(slugs: Sequence[str]) -> str:
    """Return the query that leads to the comparison of entries."""
    return urlencode([("e", name) for name in slugs])


def _digest(entry: Entry) -> str:
    return entry.submission.protocol_digest


def _losses_or_none(run_id: UUID, protocol: EvaluationProtocol | None) -> Losses | None:
    """Return an entry's robust losses on test, or None where the run store does not have or does not give them."""
    try:
        return _losses(run_id, protocol) if protocol and protocol.count(StageName.ROBUST_LOSS, Split.TEST) else None
    except (InvalidResult, StoreUnavailable):
        return None


@lru_cache(maxsize=64)
def _losses(run_id: UUID, protocol: EvaluationProtocol) -> Losses:
    """Return the robust loss of each test example [n]; finished runs never change, so it is read once."""
    results = services.run_store().shard_results(run_id, StageName.ROBUST_LOSS)
    return robust_loss_by_example(protocol, results, Split.TEST)


def _said(entry: Entry, what: str) -> str:
    return ", ".join(sorted({one for stage in entry.stages for one in stage.get(what, ())}))
