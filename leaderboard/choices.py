"""The links around the board: what else can be asked, what is asked and can be dropped, orders and pages (pure)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from evaluator.protocol import EvaluationProtocol
from evaluator.shipped import PROTOCOLS, find_protocol
from leaderboard.filters import FACETS, BoardView, offered

_NEAR = 2
"""So many pages on either side are one link away, beside the first and the last."""


@dataclass(frozen=True)
class Choice:
    """One link: its text, the query it leads to, how many entries are there, and whether it is what is shown."""

    label: str
    query: str
    count: int | None = None
    chosen: bool = False


def protocols(view: BoardView, counts: Mapping[str, int]) -> list[Choice]:
    """Return the protocols on offer in their newest version, each with how many entries its digest has."""
    return [
        _protocol(BoardView(find_protocol(name), view.dataset, view.norm), view, counts)
        for name in offered(view.dataset, view.norm)
    ]


def groups(
    view: BoardView, counts: Mapping[str, int], values: Mapping[str, Mapping[str, int]]
) -> list[tuple[str, list[Choice]]]:
    """Return all that a board can be narrowed by, group by group under a title; where there is no choice, no group.

    `counts` are the entries of each protocol by digest, `values` those of each value by facet.
    """
    versions = PROTOCOLS[view.protocol.name]
    found = {
        "Data set": _offers("dataset", view.dataset, norm=view.norm),
        "Norm": _offers("norm", view.norm, dataset=view.dataset),
        "Version": [_protocol(view.but(protocol=one, beside=None), view, counts) for one in versions[1:] and versions],
        "Side by side": list(_beside(view, counts)) if versions[1:] else [],
    }
    for facet, title in FACETS.items():
        chosen, there = view.chosen.get(facet, ()), values.get(facet, {})
        found[title] = [
            Choice(value, view.toggled(facet, value).query(), there.get(value, 0), value in chosen)
            for value in sorted({*there, *chosen})
        ]
    return [(title, choices) for title, choices in found.items() if len(choices) > 1 or any(c.chosen for c in choices)]


def asked(view: BoardView) -> list[Choice]:
    """Return everything that leaves entries out, each with the query without it."""
    found = [Choice(f"“{view.text}”", view.but(text="").query())] if view.text else []
    return found + [
        Choice(f"{FACETS[facet].lower()}: {value}", view.toggled(facet, value).query())
        for facet, values in view.chosen.items()
        for value in values
    ]


def order(view: BoardView, key: str) -> tuple[str, str]:
    """Return the state of a column's order, and the query of that order or of the opposite of the present one."""
    state = {key: "ascending", f"-{key}": "descending"}.get(view.sort, "")
    return state, view.but(sort=f"-{key}" if state == "ascending" else key).query()


def pages(view: BoardView, last: int) -> list[Choice | None]:
    """Return links to the pages nearby, the first and the last; None stands where some are left out."""
    near = range(view.page - _NEAR, view.page + _NEAR + 1)
    shown = sorted({number for number in (1, *near, last) if 1 <= number <= last})
    links: list[Choice | None] = []
    for number, before in zip(shown, (0, *shown), strict=False):
        if number - before > 1:
            links.append(None)
        links.append(Choice(str(number), view.but(page=number).query(), chosen=number == view.page))
    return links


def _protocol(target: BoardView, view: BoardView, counts: Mapping[str, int]) -> Choice:
    chosen, one = target.protocol == view.protocol, target.protocol
    return Choice(_label(one), target.query(), counts.get(one.digest, 0), chosen)


def _label(protocol: EvaluationProtocol) -> str:
    return protocol.label if len(PROTOCOLS[protocol.name]) > 1 else protocol.name


def _beside(view: BoardView, counts: Mapping[str, int]) -> Iterator[Choice]:
    yield Choice("alone", view.but(beside=None).query(), chosen=view.beside is None)
    for other in PROTOCOLS[view.protocol.name]:
        if other != view.protocol:
            query = view.but(beside=other.version).query()
            yield Choice(f"with v{other.version}", query, counts.get(other.digest, 0), other.version == view.beside)


def _offers(field: str, present: str, **others: str) -> list[Choice]:
    """Return the data sets or norms of protocols on offer, and the way back to all of them."""
    facts = [(p.dataset, p.threat_model.norm.value) for p in map(find_protocol, offered(**others))]
    names = sorted({dataset if field == "dataset" else norm for dataset, norm in facts})
    if len(names) < 2:
        return []
    said = {name: value for name, value in others.items() if value}
    return [
        Choice(name or "all", urlencode({**said, **({field: name} if name else {})}), chosen=name == present)
        for name in ("", *names)
    ]
