"""What a reader asks of the board: an address's query ⇄ `BoardView`, and which rows that leaves (pure)."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import EvaluationProtocol
from evaluator.shipped import PROTOCOLS, find_protocol
from leaderboard.columns import EARLY_STOPPED, columns_of
from leaderboard.listing import Listing, Row

FACETS = {"architecture": "Architecture", "data": "Extra data", "division": "Division", "trust": "Trust"}
"""Titles of what narrows a board, by their names in addresses and in `Row.facets`."""

HEADLINE = (
    "robust_error_test",
    "robust_loss_test",
    "flatness_test",
    "clean_error_test",
    "robust_error_train",
    "robust_loss_gap",
    "flatness_train",
    EARLY_STOPPED.key,
)
"""The numbers a reader meets first, as far as they are measured, most decisive first; the rest can be picked."""

ABOUT: dict[str, tuple[str, Callable[[Row], Any]]] = {
    "authors": ("Authors, venue", lambda row: f"{row.said.authors} {row.said.venue}".strip().casefold() or None),
    "architecture": ("Architecture", lambda row: row.architecture),
    "extra_data": ("Extra data", lambda row: row.extra_data),
    "stored_numbers": ("Numbers stored", lambda row: row.stored_numbers),
    "seconds": ("Time", lambda row: row.seconds),
    "published": ("Published", lambda row: row.published_at),
}
"""Columns that hold no measurement, with their titles and values."""

_ALWAYS: dict[str, Callable[[Row], Any]] = {
    "rank": lambda row: row.standing and row.standing.rank,
    "title": lambda row: row.title.casefold(),
}
_LONGEST_TEXT = 100
_PAGE = re.compile(r"[1-9][0-9]{0,5}")


@dataclass(frozen=True)
class BoardView:
    """One way to look at the board; what stands at its default does not stand in the address.

    `dataset` and `norm` narrow the protocols on offer, `chosen` the entries: values by facet. `beside` is another
    version of the protocol whose numbers stand next to this one's.
    """

    protocol: EvaluationProtocol
    dataset: str = ""
    norm: str = ""
    text: str = ""
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = "rank"
    columns: tuple[str, ...] = ()
    beside: int | None = None
    page: int = 1

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns beside rank and title, those of numbers by their names in tables, JSON and CSV."""
        there = every_column(self.protocol)
        return self.columns or tuple(key for key in (*HEADLINE, "architecture", "seconds") if key in there)

    def but(self, **changes: Any) -> "BoardView":
        """Return the view with changes, from its first page on."""
        return replace(self, **{"page": 1, **changes})

    def toggled(self, facet: str, value: str) -> "BoardView":
        """Return the view with one value of a facet chosen that was not, or the other way round."""
        values = set(self.chosen.get(facet, ())) ^ {value}
        return self.but(chosen={**self.chosen, facet: tuple(sorted(values))})

    def fields(self) -> dict[str, str]:
        """Return what the address has to say, in an order of its own: equal views have equal addresses."""
        said = {
            "protocol": self.protocol.name,
            "version": str(self.protocol.version),
            "dataset": self.dataset,
            "norm": self.norm,
            "q": self.text,
            **{name: ",".join(self.chosen.get(name, ())) for name in FACETS},
            "sort": "" if self.sort == "rank" else self.sort,
            "columns": "all" if self.columns == every_column(self.protocol) else ",".join(self.columns),
            "beside": str(self.beside or ""),
            "page": "" if self.page == 1 else str(self.page),
        }
        return {name: value for name, value in said.items() if value}

    def query(self) -> str:
        """Return the address's query; `parse` reads the same view out of it, whatever is published meanwhile."""
        return urlencode(self.fields(), safe=",")


@lru_cache
def every_column(protocol: EvaluationProtocol) -> tuple[str, ...]:
    """Return all columns that a board of `protocol` can show beside rank and title."""
    return (*columns_of(protocol), *ABOUT)


def orders(protocol: EvaluationProtocol) -> tuple[str, ...]:
    """Return all columns that a board of `protocol` can be sorted by."""
    return (*_ALWAYS, *every_column(protocol))


def offered(dataset: str = "", norm: str = "") -> list[str]:
    """Return the names of the rankable protocols on a data set and of a norm, wherever one is asked for."""
    return [
        name
        for name, versions in PROTOCOLS.items()
        if versions[-1].rankable
        and dataset in ("", versions[-1].dataset)
        and norm in ("", versions[-1].threat_model.norm)
    ]


def parse(query: Mapping[str, Sequence[str]], counts: Mapping[str, int]) -> tuple[BoardView, list[str]]:
    """Return the view of a query, and a sentence for everything that it asks in vain.

    `counts` says how many entries the digest of a protocol has: without a protocol, the fullest one is shown. Values
    stand in one field, with commas between, or in several fields of one name.
    """
    notes: list[str] = []
    said = {name: tuple(one.strip() for one in ",".join(values).split(",")) for name, values in query.items()}
    given = {name: tuple(dict.fromkeys(filter(None, values))) for name, values in said.items()}

    def one(name: str) -> str:
        return given.get(name, ("",))[0] if given.get(name) else ""

    dataset = _known("data set", one("dataset"), {find_protocol(name).dataset for name in offered()}, notes)
    norm = _known("norm", one("norm"), {find_protocol(name).threat_model.norm for name in offered(dataset)}, notes)
    protocol = _protocol(one("protocol"), one("version"), offered(dataset, norm), counts, notes)
    if (dataset and protocol.dataset != dataset) or (norm and protocol.threat_model.norm != norm):
        dataset = norm = ""
    text = " ".join(",".join(query.get("q", ())).split())
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT].strip()
        notes.append(f"A search takes up to {_LONGEST_TEXT} characters; the first of them were looked for.")
    chosen = {name: given[name] for name in FACETS if given.get(name)}
    sort = one("sort") or "rank"
    if sort.removeprefix("-") not in orders(protocol):
        name = sort.removeprefix("-")[:60]
        notes.append(f"Sorted by rank instead: the board has no column {name!r}; it has {', '.join(orders(protocol))}.")
        sort = "rank"
    return BoardView(
        protocol, dataset, norm, text, chosen, sort,
        columns=_columns(given.get("columns", ()), protocol, notes),
        beside=_beside(one("beside"), protocol, notes),
        page=_page(one("page"), notes),
    ), notes  # fmt: skip


def known_values(view: BoardView, listing: Listing) -> tuple[BoardView, list[str]]:
    """Return the view without facet values that no entry has, and a sentence for each."""
    notes = []
    chosen = {}
    for name, values in view.chosen.items():
        there = listing.counts.get(name, {})
        chosen[name] = tuple(sorted(value for value in values if value in there))
        notes += [
            f"No entry has {FACETS[name].lower()} {value[:60]!r}; there {_are(sorted(there))}."
            for value in values
            if value not in there
        ]
    return replace(view, chosen={name: values for name, values in chosen.items() if values}), notes


@dataclass(frozen=True)
class Narrowed:
    """The rows that a view leaves, by rank; how many would be left of each value of a facet were it chosen."""

    rows: tuple[Row, ...]
    counts: Mapping[str, Counter[str]]


def narrow(view: BoardView, listing: Listing) -> Narrowed:
    """Return the rows of a view by rank; the counts of a facet heed all that is asked but the facet itself."""
    if not view.text and not view.chosen:
        return Narrowed(listing.rows, listing.counts)
    words = view.text.casefold().split()
    counts: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
    left = []
    for row in listing.rows:
        if all(word in row.text for word in words):
            missed = [name for name, values in view.chosen.items() if row.facets[name] not in values]
            if not missed:
                left.append(row)
            for name in FACETS if not missed else missed if len(missed) == 1 else ():
                counts[name][row.facets[name]] += 1
    return Narrowed(tuple(left), counts)


def ordered(rows: tuple[Row, ...], sort: str) -> tuple[Row, ...]:
    """Return rows that come by rank by a column, descending with a leading minus; those without it stand last."""
    if sort == "rank":
        return rows
    name = sort.removeprefix("-")
    if name in _ALWAYS or name in ABOUT:
        key = _ALWAYS[name] if name in _ALWAYS else ABOUT[name][1]
        keyed = [(key(row), row) for row in rows]
    else:
        keyed = [(row.numbers[name].value if name in row.numbers else None, row) for row in rows]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=sort.startswith("-"))
    return tuple(row for _, row in (*known, *(pair for pair in keyed if pair[0] is None)))


def _known(what: str, value: str, there: set[str], notes: list[str]) -> str:
    if value and value not in there:
        notes.append(f"Showing every {what} instead: none is called {value[:60]!r}; there {_are(sorted(there))}.")
        return ""
    return value


def _protocol(
    name: str, version: str, names: Sequence[str], counts: Mapping[str, int], notes: list[str]
) -> EvaluationProtocol:
    fullest = max(names, key=lambda one: counts.get(find_protocol(one).digest, 0))
    try:
        protocol = find_protocol(name or fullest)
    except InvalidRequest as error:
        notes.append(f"Showing {fullest} instead: {error}.")
        return find_protocol(fullest)
    versions = {str(one.version): one for one in PROTOCOLS[protocol.name]}
    if version and version not in versions:
        notes.append(
            f"Showing {protocol.label} instead: {protocol.name} has no version {version[:60]!r}; "
            f"there {_are(list(versions))}."
        )
    return versions.get(version, protocol)


def _columns(keys: tuple[str, ...], protocol: EvaluationProtocol, notes: list[str]) -> tuple[str, ...]:
    there = every_column(protocol)
    if keys == ("all",):
        return there
    unknown = [key for key in keys if key not in there]
    if unknown:
        notes.append(
            f"Left out: {protocol.label} has no column {', '.join(repr(key[:60]) for key in unknown[:5])}; "
            f"it has {', '.join(there)}."
        )
    return tuple(key for key in keys if key in there)


def _beside(version: str, protocol: EvaluationProtocol, notes: list[str]) -> int | None:
    others = [str(one.version) for one in PROTOCOLS[protocol.name] if one.version != protocol.version]
    if version and version not in others:
        notes.append(f"{protocol.label} has no other version {version[:60]!r} that could stand beside it.")
        return None
    return int(version) if version else None


def _page(number: str, notes: list[str]) -> int:
    if number and not _PAGE.fullmatch(number):
        notes.append(f"Showing the first page instead of {number[:60]!r}, which is none.")
        return 1
    return int(number or 1)


def _are(names: Sequence[str]) -> str:
    return ("are " if len(names) != 1 else "is ") + (", ".join(names) or "none")
