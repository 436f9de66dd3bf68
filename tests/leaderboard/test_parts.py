"""Protocols that ask for a part of the numbers: what was not measured is absent everywhere, and nowhere a zero."""

import csv
import io
import re
from pathlib import Path

import pytest
from django.test import Client

from evaluator.metrics import METRICS
from evaluator.protocol import EvaluationProtocol
from evaluator.shipped import DIGITS_CURVE, DIGITS_STOPPED
from leaderboard import selectors
from leaderboard.models import Measurement, Submission
from tests.leaderboard import factory

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.parametrize("protocol", [DIGITS_CURVE, DIGITS_STOPPED], ids=lambda protocol: protocol.name),
]


@pytest.fixture
def entry(tmp_path: Path, protocol: EvaluationProtocol) -> Submission:
    """Publish two entries under the protocol; return the last."""
    factory.published(tmp_path, "first", number=1, protocol=protocol)
    return factory.published(tmp_path, "last", number=2, protocol=protocol)


def test_an_entry_holds_exactly_the_numbers_of_its_protocol(entry: Submission, protocol: EvaluationProtocol) -> None:
    assert tuple(selectors.numbers(entry.entry)) == protocol.columns()
    assert Measurement.objects.count() == 2 * len(protocol.columns())


def test_page_csv_and_json_have_exactly_its_columns(
    client: Client, entry: Submission, protocol: EvaluationProtocol
) -> None:
    view = {"protocol": protocol.name}
    page = client.get("/", {**view, "columns": "all"}).content.decode()
    document = client.get("/api/v1/board", view).json()
    table = csv.DictReader(io.StringIO(client.get("/board.csv", {**view, "columns": "all"}).content.decode()))
    cells = [key for line in table for key, cell in line.items() if key in selectors.COLUMNS and cell]
    assert cells == [*protocol.columns()] * 2
    assert {key for key in table.fieldnames or () if key in selectors.COLUMNS} == {*protocol.columns()}
    assert [tuple(one["numbers"]) for one in document["entries"]] == [protocol.columns()] * 2
    headers = re.findall(r"sort=-?(\w+)", page)
    assert {key for key in headers if key in selectors.COLUMNS} == {*protocol.columns()}
    headline = client.get("/", view).content.decode()
    for shown in (page, headline):
        assert "This protocol is never ranked" in shown
        assert not re.search(r"\bnan\b|Ranked by AutoAttack", shown)
    assert ("Robust error is measured on" in page) == (protocol is DIGITS_STOPPED)


def test_the_entry_page_shows_what_was_measured_and_no_more(
    client: Client, entry: Submission, protocol: EvaluationProtocol
) -> None:
    page = client.get(entry.get_absolute_url()).content.decode()
    shown = {key for key in METRICS if f'/about/#{key}"' in page}
    assert shown == {m.key for m in METRICS.values() if {*m.columns()} & {*protocol.columns()}}
    assert page.count("<data value=") == len(protocol.columns())
    assert ("What broke the examples" in page) == (protocol is DIGITS_STOPPED)
    if protocol is DIGITS_STOPPED:
        assert '<th scope="col" class="text-end">Test</th></tr>' in page


def test_the_chart_is_there_where_its_numbers_are(
    client: Client, entry: Submission, protocol: EvaluationProtocol
) -> None:
    figure = client.get("/figures/robust-loss-against-flatness.svg", {"protocol": protocol.name})
    assert figure.status_code == (200 if protocol is DIGITS_CURVE else 404)


def test_an_order_by_what_is_not_measured_is_answered_with_what_is(
    client: Client, entry: Submission, protocol: EvaluationProtocol
) -> None:
    absent = next(key for key in selectors.COLUMNS if key not in protocol.columns())
    view = {"protocol": protocol.name, "sort": absent}
    page = client.get("/", view)
    assert page.status_code == 200
    assert f"Sorted by rank instead: the board has no column &#x27;{absent}&#x27;" in page.content.decode()
    for address in ("/board.csv", "/api/v1/board"):
        answer = client.get(address, view)
        assert answer.status_code == 400
        assert protocol.columns()[0] in answer.content.decode()
