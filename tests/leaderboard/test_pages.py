"""Every page and its machine-readable twins say the same numbers."""

import csv
import io
import re
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from evaluator.exceptions import DatasetMissing
from evaluator.metrics import METRICS
from evaluator.shipped import DIGITS_DEMO, DIGITS_LINF, PROTOCOLS, SMOKE
from leaderboard import selectors, services
from leaderboard.board_api import board_json
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db


@pytest.fixture
def board(tmp_path: Path) -> None:
    """Publish four entries of different quality."""
    for number, quality in enumerate((0.2, 0.9, 0.5, 0.7)):
        factory.published(tmp_path, f"entry {number}", number=number, quality=quality)


def shown_order(page: str) -> list[str]:
    return re.findall(r'<th scope="row" class="entry-name"><a href="[^"]+">([^<]+)</a>', page)


def test_the_board_is_ranked_and_links_every_entry(client: Client, board: None) -> None:
    page = client.get("/").content.decode()
    assert shown_order(page) == ["entry 1", "entry 3", "entry 2", "entry 0"]
    for row in selectors.board(DIGITS_DEMO).rows:
        assert page.count(f'href="{row.url}"') == 3  # the table's link; the chart's point and label
        assert client.get(row.url).status_code == 200


def test_an_empty_site_says_so(client: Client) -> None:
    assert "Nothing is published under digits-linf v1 yet" in client.get("/").content.decode()
    assert client.get("/figures/robust-loss-against-flatness.svg").status_code == 404


def test_the_board_sorts_by_every_column_both_ways(client: Client, board: None) -> None:
    def values(key: str, rows: tuple[selectors.Row, ...]) -> list:
        if key in DIGITS_DEMO.columns():
            return [row.numbers[key].value for row in rows]
        return [row.standing.rank if key == "rank" else getattr(row, key) for row in rows]

    for key in (*DIGITS_DEMO.columns(), "seconds", "title", "architecture", "rank"):
        ascending, descending = (selectors.board(DIGITS_DEMO, sign + key).rows for sign in ("", "-"))
        assert values(key, ascending) == sorted(values(key, ascending))
        assert values(key, descending) == sorted(values(key, ascending), reverse=True)
        page = client.get("/", {"sort": f"-{key}", "columns": "all"}).content.decode()
        assert shown_order(page) == [row.title for row in descending]
        assert page.count('aria-sort="descending"') == 1


def test_the_page_the_csv_and_the_json_say_the_same_numbers(client: Client, board: None) -> None:
    view = {"protocol": "digits-demo", "sort": "-flatness_test", "columns": "all"}
    page = client.get("/", view).content.decode()
    document = client.get("/api/v1/board", view).json()
    table = list(csv.DictReader(io.StringIO(client.get("/board.csv", view).content.decode())))
    assert document == board_json(DIGITS_DEMO, "-flatness_test")
    assert len(document["entries"]) == len(table) == 4
    shown = [float(value) for value in re.findall(r'<data value="([^"]+)">', page)]
    expected = []
    for entry, line in zip(document["entries"], table, strict=True):
        assert (line["slug"], line["rank"], line["tied_with"]) == (
            entry["slug"], str(entry["rank"]), str(entry["tied_with"])
        )  # fmt: skip
        assert list(entry["numbers"]) == list(DIGITS_DEMO.columns())
        for key, number in entry["numbers"].items():
            assert number["low"] <= number["value"] <= number["high"]
            ends = {"value": "", "low": "_low", "high": "_high", "n": "_n"}
            assert {name: float(line[key + end]) for name, end in ends.items()} == number
            expected.append(number["value"])
        expected.append(entry["seconds"])
    assert shown == expected


def test_an_entry_page_shows_every_number_with_its_interval_and_all_it_takes_to_repeat_it(
    client: Client, board: None
) -> None:
    row = selectors.board(DIGITS_DEMO).rows[0]
    page = client.get(row.url).content.decode()
    submission = selectors.submission(row.slug)
    assert submission is not None
    for number in row.numbers.values():
        assert f'<data value="{number.value}">' in page
    for text in (
        submission.checkpoint_sha256, submission.protocol_digest, str(submission.run_id), "apgd-ce", "torch 2.13.0",
        "python manage.py evaluate FILE --protocol digits-demo", "robust_loss.restarts", factory.WALLS,
    ):  # fmt: skip
        assert text in page


def test_a_submission_that_is_not_published_says_where_it_stands(client: Client, tmp_path: Path) -> None:
    submission = factory.submit(tmp_path)
    assert "This submission is queued" in client.get(submission.get_absolute_url()).content.decode()
    claim = services.run_store().claim("forger")
    assert claim is not None
    services.run_store().fail(claim, DatasetMissing("the data is not there"))
    services.sweep()
    page = client.get(submission.get_absolute_url()).content.decode()
    assert "The evaluation failed on our side: the data is not there" in page


def test_a_cancelled_submission_does_not_look_failed(client: Client, tmp_path: Path) -> None:
    submission = factory.submit(tmp_path)
    services.cancel(submission.run_id)
    page = client.get(submission.get_absolute_url()).content.decode()
    assert "This submission was cancelled; hand the same file in again to have it measured." in page
    assert "failed" not in page
    assert "alert-danger" not in page


def test_an_unknown_order_or_protocol_falls_back_with_a_sentence(client: Client, board: None) -> None:
    response = client.get("/", {"sort": "beauty", "protocol": "nonsense"})
    page = response.content.decode()
    assert response.status_code == 200
    assert "Sorted by rank instead: the board has no column &#x27;beauty&#x27;" in page
    assert "Showing digits-demo instead: no protocol is called &#x27;nonsense&#x27;" in page
    assert shown_order(page) == ["entry 1", "entry 3", "entry 2", "entry 0"]


def test_machines_are_refused_with_a_sentence(client: Client) -> None:
    for address in ("/board.csv", "/api/v1/board"):
        for view, wrong in (({"protocol": "digits-demo", "sort": "beauty"}, "beauty"), ({"protocol": "none"}, "none")):
            response = client.get(address, view)
            assert response.status_code == 400
            assert wrong in response.content.decode()


def test_another_protocol_has_a_board_of_its_own(client: Client, board: None, tmp_path: Path) -> None:
    factory.published(tmp_path, "elsewhere", number=9, protocol=DIGITS_LINF)
    page = client.get("/", {"protocol": "digits-linf"}).content.decode()
    assert shown_order(page) == ["elsewhere"]
    assert "digits-linf v1" in page


def test_a_protocol_that_is_never_ranked_gives_no_ranks(client: Client, tmp_path: Path) -> None:
    factory.published(tmp_path, protocol=SMOKE)
    row = selectors.board(SMOKE).rows[0]
    assert row.standing is None
    page = client.get("/", {"protocol": "smoke"}).content.decode()
    assert "never ranked" in page
    assert board_json(SMOKE)["entries"][0]["rank"] is None


def test_titles_are_text_on_every_page(client: Client, tmp_path: Path) -> None:
    for number in range(2):
        submission = factory.published(tmp_path, "<script>alert(1)</script>", number=number)
    for address in ("/", submission.get_absolute_url(), "/figures/robust-loss-against-flatness.svg"):
        page = client.get(address).content.decode()
        assert "<script>" not in page
        assert "&lt;script&gt;" in page


def test_the_number_of_queries_does_not_grow_with_the_entries(
    client: Client, tmp_path: Path, django_assert_max_num_queries
) -> None:
    addresses = [
        factory.published(tmp_path).get_absolute_url(),
        "/",
        "/board.csv",
        "/api/v1/board?protocol=digits-demo",
    ]
    counts = []
    for address in addresses:
        with django_assert_max_num_queries(6) as few:  # the board reads what has changed
            client.get(address)
        counts.append(len(few))
    for number in range(1, 4):
        factory.published(tmp_path, number=number)
    for address, count in zip(addresses, counts, strict=True):
        with django_assert_max_num_queries(count):
            client.get(address)


def test_reported_results_stand_apart_and_unranked(client: Client, board: None) -> None:
    assert "No reported results are imported" in client.get("/reported/").content.decode()
    call_command("import_reference")
    page = client.get("/reported/").content.decode()
    assert "Reported, not measured here" in page
    assert page.count('<th scope="row"') == 19 + 135
    assert "62.8" in page
    assert shown_order(client.get("/").content.decode()) == ["entry 1", "entry 3", "entry 2", "entry 0"]


def test_the_about_page_explains_every_metric(client: Client) -> None:
    page = client.get("/about/").content.decode()
    for metric in METRICS.values():
        assert f'id="{metric.key}"' in page


def test_the_protocols_page_gives_every_digest(client: Client) -> None:
    page = client.get("/protocols/").content.decode()
    for versions in PROTOCOLS.values():
        for protocol in versions:
            assert protocol.digest in page


def test_the_chart_is_a_file_in_each_theme(client: Client, board: None) -> None:
    for kind, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
        for theme in ("light", "dark"):
            response = client.get(f"/figures/robust-loss-against-flatness.{kind}", {"theme": theme})
            assert response.content.startswith(start)


def test_what_does_not_exist_is_not_found(client: Client, board: None) -> None:
    figure = "/figures/robust-loss-against-flatness"
    for address in (
        f"{figure}.gif",
        f"{figure}.svg?theme=loud",
        f"{figure}.svg?protocol=none",
        "/entries/none/",
        "/no/",
    ):
        assert client.get(address).status_code == 404


def test_pages_carry_the_policy_and_name_no_other_host(client: Client, board: None) -> None:
    for address in ("/", "/about/", "/protocols/", "/reported/", selectors.board(DIGITS_DEMO).rows[0].url):
        response = client.get(address)
        assert "default-src 'self'" in response["Content-Security-Policy"]
        page = re.sub(r'xmlns(:xlink)?="[^"]+"', "", response.content.decode()).replace("http://testserver/", "/")
        assert not re.findall(r'(?:https?:)?//[^\s"<]+', page)
        assert not re.findall(r"<script>|<style|\sstyle=|\son\w+=", page)
