"""Addresses and views of the board: a link says all, nonsense harms nobody, counts are what a click leaves."""

from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.results import Measurement
from evaluator.shipped import DIGITS_LINF, PROTOCOLS
from evaluator.types import Split
from leaderboard.filters import FACETS, BoardView, Narrowed, every_column, known_values, narrow, orders, parse
from leaderboard.filters import ordered as in_order
from leaderboard.listing import Listing, Row
from leaderboard.ranking import Standing

VALUES = {"architecture": ("cnn", "resnet"), "data": ("none", "not stated"), "division": ("reference", "submitted"),
          "trust": ("flagged", "no flags")}  # fmt: skip
NOW = datetime(2026, 1, 1, tzinfo=UTC)
bounded = settings(max_examples=40)


@st.composite
def views(draw: st.DrawFn) -> BoardView:
    protocol = draw(st.sampled_from([versions[-1] for versions in PROTOCOLS.values()]))
    columns = st.lists(st.sampled_from(every_column(protocol)), unique=True).map(tuple)
    return BoardView(
        protocol,
        dataset=draw(st.sampled_from(["", protocol.dataset])) if protocol.rankable else "",
        norm=draw(st.sampled_from(["", str(protocol.threat_model.norm)])) if protocol.rankable else "",
        text=" ".join(draw(st.text(max_size=100)).split()),
        chosen=draw(choices()),
        sort=draw(st.sampled_from(["", "-"])) + draw(st.sampled_from(orders(protocol))),
        columns=draw(columns | st.just(every_column(protocol))),
        page=draw(st.integers(1, 999_999)),
    )


@st.composite
def choices(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    chosen = {name: draw(st.lists(st.sampled_from(there), unique=True)) for name, there in VALUES.items()}
    return {name: tuple(sorted(values)) for name, values in chosen.items() if values}


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    rows = []
    for number in range(draw(st.integers(0, 6))):
        facets = {name: draw(st.sampled_from(there)) for name, there in VALUES.items()}
        losses = draw(st.none() | st.integers(0, 2))
        numbers = {} if losses is None else {"clean_loss_test": Measurement("clean_loss", Split.TEST, losses, 0, 2, 9)}
        title = draw(st.sampled_from(["AT", "TRADES", "AT with words"]))
        rows.append(
            Row(
                slug=f"entry-{number}", title=title, url="/", architecture=facets["architecture"], is_reference=True,
                stored_numbers=number, seconds=1.0, published_at=NOW, numbers=numbers, checkpoint=str(number),
                extra_data="none", flags=(), facets=facets, text=f"{title} entry-{number}".casefold(),
                standing=Standing(number + 1, 1),
            )
        )  # fmt: skip
    counts: dict[str, dict[str, int]] = {name: {} for name in VALUES}
    for row in rows:
        for name, value in row.facets.items():
            counts[name][value] = counts[name].get(value, 0) + 1
    return Listing(tuple(rows), counts, NOW)


def read(query: str) -> tuple[BoardView, list[str]]:
    return parse(parse_qs(query, keep_blank_values=True), {})


@bounded
@given(views())
def test_a_permanent_link_leads_to_its_view_whatever_is_published(view: BoardView) -> None:
    assert read(view.query()) == (view, [])


@bounded
@given(
    st.dictionaries(
        st.sampled_from(["protocol", "version", "dataset", "norm", "q", "sort", "columns", "beside", "page", *FACETS])
        | st.text(),
        st.lists(st.text(), min_size=1),
    )
)
def test_nonsense_yields_a_view_that_has_an_address(query: dict[str, list[str]]) -> None:
    view, notes = parse(query, {})
    assert read(view.query()) == (view, [])
    assert all(note.endswith(".") and len(note) < 900 for note in notes)


@pytest.mark.parametrize(
    "query",
    ["protocol=none", "version=9", "version=one", "dataset=mnist", "norm=L7", "sort=beauty", "columns=beauty", "page=0",
     "page=²", "page=9999999999", "beside=1", "beside=9", "q=" + "a" * 101],
)  # fmt: skip
def test_everything_asked_in_vain_is_answered_by_one_sentence(query: str) -> None:
    view, notes = read(query)
    assert len(notes) == 1
    assert view.protocol.rankable


def test_the_fullest_protocol_on_offer_is_shown_when_none_is_named() -> None:
    counts = {PROTOCOLS["cifar10-l2"][-1].digest: 3, PROTOCOLS["svhn-linf"][-1].digest: 2}
    assert parse({}, counts)[0].protocol.name == "cifar10-l2"
    assert parse({"norm": ["Linf"]}, counts)[0].protocol.name == "svhn-linf"
    assert parse({"dataset": ["digits"], "protocol": ["cifar10-l2"]}, counts)[0].protocol.name == "cifar10-l2"


@bounded
@given(listings(), choices(), st.sampled_from(["", "at", "WITH at", "entry-1", "nowhere"]))
def test_a_view_leaves_the_rows_that_are_all_of_it_at_once(listing: Listing, chosen, text: str) -> None:
    view = BoardView(DIGITS_LINF, chosen=chosen, text=text)
    expected = [
        row
        for row in listing.rows
        if all(row.facets[name] in values for name, values in chosen.items())
        and all(word in f"{row.title} {row.slug}".casefold() for word in text.casefold().split())
    ]
    assert list(narrow(view, listing).rows) == expected


@bounded
@given(listings(), choices(), st.sampled_from(["", "at"]))
def test_the_count_at_a_value_is_what_choosing_it_alone_would_leave(listing: Listing, chosen, text: str) -> None:
    view = BoardView(DIGITS_LINF, chosen=chosen, text=text)
    counts = narrow(view, listing).counts
    for name, there in VALUES.items():
        for value in there:
            alone = narrow(view.but(chosen={**chosen, name: (value,)}), listing)
            assert counts[name].get(value, 0) == len(alone.rows)


@bounded
@given(listings(), st.sampled_from(["", "-"]), st.sampled_from(["clean_loss_test", "title", "stored_numbers", "rank"]))
def test_an_order_keeps_every_row_and_puts_unknown_values_last(listing: Listing, sign: str, name: str) -> None:
    def value(row: Row) -> object:
        found = {"title": row.title.casefold(), "stored_numbers": row.stored_numbers, "rank": row.standing.rank}
        return found[name] if name in found else row.numbers[name].value if row.numbers else None

    rows = in_order(listing.rows, sign + name)
    assert {row.slug for row in rows} == {row.slug for row in listing.rows}
    values = [value(row) for row in rows]
    known = [one for one in values if one is not None]
    assert values[: len(known)] == sorted(known, reverse=bool(sign))


@bounded
@given(listings())
def test_a_value_that_no_entry_has_is_left_out_with_a_sentence(listing: Listing) -> None:
    view, notes = known_values(BoardView(DIGITS_LINF, chosen={"trust": ("beautiful",)}), listing)
    assert view.chosen == {}
    assert len(notes) == 1
    assert narrow(view, listing) == Narrowed(listing.rows, listing.counts)
