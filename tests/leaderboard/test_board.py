"""The board of many entries: found, narrowed, paged, shared, and computed once for each change."""

import csv
import io
import re
from dataclasses import replace

import pytest
from django.test import Client
from django.utils import timezone

from evaluator.shipped import DIGITS_DEMO, PROTOCOLS
from leaderboard import board_chart, listing
from leaderboard.models import Entry, Measurement, Submission
from tests.leaderboard import crowd

pytestmark = pytest.mark.django_db

SECOND = replace(DIGITS_DEMO, version=2, seed=1)


@pytest.fixture(autouse=True)
def _no_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_chart, "board_svg", lambda points, protocol, among: "")  # test_pages draws it


@pytest.fixture
def entries() -> None:
    crowd.publish(60, DIGITS_DEMO)


@pytest.fixture
def two_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "digits-demo", (DIGITS_DEMO, SECOND))
    crowd.publish(4, DIGITS_DEMO)
    crowd.publish(3, SECOND, seed=1)


def titles(page: str) -> list[str]:
    return re.findall(r'<th scope="row" class="entry-name"><a href="[^"]+">([^<]+)</a>', page)


def read(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


def table(client: Client, query: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read(client, f"/board.csv?{query}"))))


def test_as_many_queries_for_ten_entries_as_for_two_hundred(client: Client, django_assert_num_queries) -> None:
    for count in (10, 200):
        Submission.objects.all().delete()
        crowd.publish(count, DIGITS_DEMO)
        with django_assert_num_queries(6):  # how often, stamp, which changed, those, their numbers, what others report
            client.get("/")
        for address, queries in (
            ("/", 3),
            ("/?q=trades&sort=-flatness_test", 3),
            ("/board.csv", 2),
            ("/board.json", 2),
        ):
            with django_assert_num_queries(queries):
                client.get(address)


def test_what_is_kept_is_what_would_be_read_anew(client: Client, entries: None) -> None:
    def kept() -> listing.Listing:
        return listing.listing(DIGITS_DEMO, listing.stamps())

    before = kept()
    assert kept() is before
    first = Submission.objects.get(slug=before.rows[0].slug)
    changes = (
        lambda: setattr(first, "title", "Another title"),
        lambda: Entry.objects.filter(submission=first).update(robust_on_test="0" * 160),
        lambda: Measurement.objects.filter(entry__submission=first, metric="robust_error").update(value=1.0),
    )
    for change in changes:
        change()
        first.save()
        now = kept()
        listing._kept.clear()
        assert now == kept()
        assert now != before
        before = now
    Entry.objects.exclude(submission=first).delete()
    assert [row.title for row in kept().rows] == ["Another title"]
    Entry.objects.all().delete()
    assert kept().rows == ()


def test_pages_hold_all_entries_once(client: Client, entries: None) -> None:
    first, second = read(client, "/"), read(client, "/?page=2")
    assert [len(titles(page)) for page in (first, second)] == [50, 10]
    assert titles(first) + titles(second) == [row["title"] for row in table(client, "")]
    assert 'aria-current="page"><span class="visually-hidden">Page </span>2</a>' in second
    beyond = read(client, "/?page=7")
    assert "Showing page 2 instead of 7: it is the last one." in beyond
    assert titles(beyond) == titles(second)


def test_page_csv_and_json_show_the_same_view(client: Client, entries: None) -> None:
    query = "q=trades&trust=no+flags&sort=-flatness_test&columns=flatness_test,architecture"
    shown = titles(read(client, f"/?{query}"))
    lines, document = table(client, query), client.get(f"/board.json?{query}").json()
    assert len(shown) == 14  # of 15 one has a warning
    assert all(title.startswith("TRADES") for title in shown)
    assert shown == [line["title"] for line in lines] == [one["title"] for one in document["entries"]]
    for line, one in zip(lines, document["entries"], strict=True):
        assert one["numbers"].keys() == {"flatness_test"}
        assert float(line["flatness_test_low"]) == one["numbers"]["flatness_test"]["low"]
    assert "robust_error_test" not in lines[0]
    assert client.get(f"/board.json?{document['query']}").json() == document


def test_a_link_at_every_value_leaves_as_many_entries_as_it_says(client: Client, entries: None) -> None:
    page = read(client, "/?q=0-0")
    links = re.findall(r'<li><a href="\?([^"]+)">[^<]+ <span class="count">(\d+)</span></a></li>', page)
    assert len(links) == 9
    for query, count in links:
        assert len(table(client, query.replace("&amp;", "&"))) == int(count)


def test_nothing_found_says_what_to_do(client: Client, entries: None) -> None:
    page = read(client, "/?q=nowhere&division=submitted")
    assert "No entry under digits-demo v1 is all of that at once" in page
    assert 'href="?protocol=digits-demo&amp;version=1">all 60 entries' in page
    assert 'href="?protocol=digits-demo&amp;version=1&amp;q=nowhere"' in page
    assert table(client, "q=nowhere") == []


@pytest.mark.parametrize("query", ["sort=beauty", "trust=beautiful", "page=x", "columns=beauty", "protocol=none"])
def test_people_get_a_note_and_machines_a_refusal(client: Client, entries: None, query: str) -> None:
    assert read(client, f"/?{query}").count('<p class="alert alert-warning"') == 1
    for address in ("/board.csv", "/board.json"):
        assert client.get(f"{address}?{query}").status_code == 400
    assert client.get(f"/figures/robust-loss-against-flatness.svg?{query}").status_code == 404


def test_what_a_form_sends_becomes_a_short_address(client: Client, entries: None) -> None:
    response = client.get("/?protocol=digits-demo&q=&columns=seconds&columns=flatness_test")
    assert response.status_code == 302
    assert response["Location"] == "?protocol=digits-demo&version=1&columns=seconds,flatness_test"


def test_columns_are_those_that_were_picked(client: Client, entries: None) -> None:
    page = read(client, "/?columns=flatness_test,published")
    assert re.findall(r'<th scope="col"[^>]*><a [^>]+>([^<]+)</a>', page) == [
        "Rank", "Entry", "Flatness test&nbsp;↓", "Published"
    ]  # fmt: skip
    assert page.count(" checked>") == 2


def test_another_version_stands_beside_the_same_checkpoints(client: Client, two_versions: None) -> None:
    newest = read(client, "/?protocol=digits-demo")
    assert len(titles(newest)) == 3
    assert "with v1" in newest
    page = read(client, "/?protocol=digits-demo&beside=1")
    lines = table(client, "protocol=digits-demo&beside=1")
    alone = {line["slug"].rpartition("-")[2]: line for line in table(client, "protocol=digits-demo&version=1")}
    assert page.count('<span class="beside">v1: ') == 3 * 8  # 7 numbers and the rank
    for line in lines:
        other = alone[line["slug"].rpartition("-")[2]]
        assert line["flatness_test_v1"] == other["flatness_test"] != line["flatness_test"]
    document = client.get("/board.json?protocol=digits-demo&beside=1").json()
    assert [str(one["beside"]["flatness_test"]["value"]) for one in document["entries"]] == [
        line["flatness_test_v1"] for line in lines
    ]


def test_warnings_are_flags_and_who_fails_a_check_has_no_rank(client: Client, entries: None) -> None:
    warned, failed = Entry.objects.get(submission__slug="entry-0-00007"), Entry.objects.order_by("-id").first()
    finding = {"check": "made", "seen": 1.0, "threshold": 0.5, "verdict": "fail", "sentence": "The gradient is a lie."}
    Entry.objects.filter(pk=failed.pk).update(findings=[finding])
    failed.submission.save()
    page = read(client, "/?trust=flagged,failed")
    flagged = page.partition(f'href="{warned.submission.get_absolute_url()}"')[2]
    assert flagged.index('title="AutoAttack saw zero gradients">⚑ 1 flag<') < flagged.index("</th>")
    assert 'title="The gradient is a lie."' in page
    (line,) = table(client, "trust=failed")
    assert (line["rank"], line["on_pareto_front"]) == ("", "False")
    assert min(int(row["rank"]) for row in table(client, "trust=flagged,no flags")) == 1


def test_the_pareto_front_is_marked_and_the_best_is_on_it(client: Client, entries: None) -> None:
    marked = [line["title"] for line in table(client, "") if line["on_pareto_front"] == "True"]
    page = read(client, "/")
    assert page.count('class="front"') == len([title for title in marked if title in titles(page)]) > 0
    assert table(client, "sort=flatness_test")[0]["title"] in marked


def test_no_spreadsheet_takes_a_title_for_a_formula(client: Client) -> None:
    crowd.publish(1, DIGITS_DEMO)
    submission = Submission.objects.get()
    submission.title = "=1+1"
    submission.save()
    assert table(client, "")[0]["title"] == "'=1+1"


def test_authors_and_venues_are_found_and_shown_but_nobody_finds_an_anonymous_entry_by_them(client: Client) -> None:
    crowd.publish(3, DIGITS_DEMO)
    named, anonymous, _ = Submission.objects.order_by("pk")
    said = {"authors": "Ada Lovelace, C. Babbage", "paper": "https://example.org/paper", "venue": "ICCV 2021"}
    for one in (named, anonymous):
        for name, words in said.items():
            setattr(one, name, words)
    anonymous.is_anonymous = True
    for one in (named, anonymous):
        one.save()
    for words in ("lovelace", "ADA babbage", "iccv", "iccv 2021"):
        assert [row["title"] for row in table(client, f"q={words}")] == [named.title], words
    page = read(client, "/?columns=authors&sort=authors")
    assert titles(page)[0] == named.title
    assert page.count("Ada Lovelace") == 1
    assert page.count('href="https://example.org/paper" rel="nofollow noopener ugc"') == 1
    assert page.count("ICCV 2021") == 2
    assert page.count(">anonymous<") == 1
    rows = {row["title"]: [row[name] for name in said] for row in table(client, "")}
    assert rows[named.title] == list(said.values())
    assert rows[anonymous.title] == ["", "", "ICCV 2021"]
    assert [one["authors"] for one in client.get("/board.json?q=iccv").json()["entries"]] == [said["authors"]]


def test_no_spreadsheet_runs_what_authors_are_called(client: Client) -> None:
    crowd.publish(1, DIGITS_DEMO)
    Submission.objects.update(authors="=1+1", venue="@SUM(1)", updated_at=timezone.now())
    (row,) = table(client, "")
    assert (row["authors"], row["venue"]) == ("'=1+1", "'@SUM(1)")
