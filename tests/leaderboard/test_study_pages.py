"""The analysis page, its files and the report say the same numbers; only known reference trainings count."""

import csv
import io
import json
import re
from html import unescape
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from evaluator.shipped import DIGITS_DEMO, find_protocol
from leaderboard import report, selectors
from leaderboard.analysis import STUDIES
from leaderboard.paper_figures import FIGURES
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

CURVE, STOPPED = find_protocol("digits-curve"), find_protocol("digits-stopped")
VARIANTS = ("digits/at", "digits/awp", "digits/trades", "digits/mart")


@pytest.fixture
def study(tmp_path: Path) -> None:
    """Publish four variants, one of them with two seeds, its early-stopped snapshots and two epochs on the way."""
    for index, name in enumerate(VARIANTS):
        factory.trained(tmp_path, name, quality=0.2 + 0.2 * index)
    factory.trained(tmp_path, "digits/at", seed=1, quality=0.25)
    for seed in range(2):
        factory.trained(tmp_path, "digits/at", seed=seed, epoch=40, quality=0.8, protocol=STOPPED)
    for epoch, quality in ((60, 0.9), (120, 0.1)):
        factory.trained(tmp_path, "digits/at", epoch=epoch, quality=quality, protocol=CURVE)


def test_an_empty_site_says_what_to_run(client: Client, tmp_path: Path) -> None:
    for name in STUDIES:
        page = client.get("/analysis/", {"study": name}).content.decode()
        assert f"Too few entries: run <code>python manage.py study {name}</code>" in page
    page = client.get("/analysis/", {"study": "none"}).content.decode()
    assert page.count("Showing digits instead") == 1
    report.write(STUDIES["digits"], tmp_path / "report")
    assert "Too few entries" in (tmp_path / "report" / "index.html").read_text()


def test_few_entries_are_shown_without_a_claim(client: Client, tmp_path: Path) -> None:
    factory.trained(tmp_path, "digits/at")
    page = client.get("/analysis/").content.decode()
    assert page.count("Too few points") == len(FIGURES)
    assert "Agrees" not in page


def test_the_page_shows_every_figure_with_its_sentence_its_table_and_its_files(client: Client, study: None) -> None:
    evidence = selectors.evidence(STUDIES["digits"])
    report.draw(evidence)
    page = client.get("/analysis/", {"study": "digits"}).content.decode()
    for specification in FIGURES.values():
        figure = specification.figure(evidence)
        assert f'<h2 id="{figure.key}">{figure.number} · {figure.title}</h2>' in page
        assert figure.finding in unescape(page)
        address = f"/analysis/digits/{figure.key}"
        assert (f'href="{address}.csv"' in page) == bool(figure.marks)
        for _, label, x, y, _ in figure.table.rows:
            assert "".join(f'<td class="text-end text-nowrap">{cell}</td>' for cell in (label, x, y)) in page
    assert page.count("<svg") == sum(bool(s.figure(evidence).marks) for s in FIGURES.values()) == 6
    assert f'href="{selectors.measured("digits-demo")[0].url}"' in page


def test_the_page_names_no_other_host_and_needs_no_script(client: Client, study: None) -> None:
    response = client.get("/analysis/")
    assert "default-src 'self'" in response["Content-Security-Policy"]
    page = re.sub(r'xmlns(:xlink)?="[^"]+"', "", response.content.decode())
    assert not re.findall(r'(?:https?:)?//[^\s"<]+', page)
    assert not re.findall(r"<script>|<style|\sstyle=|\son\w+=", page)


def test_every_file_that_the_page_links_is_there(client: Client, study: None) -> None:
    page = client.get("/analysis/").content.decode()
    addresses = set(re.findall(r'href="(/analysis/digits/[^"]+)"', page))
    assert len(addresses) == 4 * 6 + 3
    starts = {"svg": b"<svg", "png": b"\x89PNG", "csv": b"", "json": b"{"}
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200
        assert response.content.startswith(starts[address.rpartition(".")[2]])
    for missing in ("digits/none.csv", "digits/sweeps.svg", "none/table-1.csv"):
        assert client.get(f"/analysis/{missing}").status_code == 404


def test_the_report_says_the_same_as_the_page_and_opens_from_disk(client: Client, study: None, tmp_path: Path) -> None:
    call_command("import_reference", verbosity=0)
    folder = tmp_path / "report"
    lines = report.write(STUDIES["digits"], folder)
    page = re.sub(r'xmlns(:xlink)?="[^"]+"', "", (folder / "index.html").read_text())
    assert not re.findall(r'(?:https?:)?//[^\s"<]+|href="/', page)
    for name in re.findall(r'href="([^"]+)"', page):
        assert (folder / name).is_file(), name
    site = client.get("/analysis/").content.decode()
    findings = re.findall(r'<p class="finding reading">([^<]+)</p>', page)
    assert findings == re.findall(r'<p class="finding reading">([^<]+)</p>', site)
    assert [line.partition(": ")[2] for line in lines[: len(FIGURES)]] == [unescape(finding) for finding in findings]
    for path in folder.glob("*.csv"):
        assert client.get(f"/analysis/digits/{path.name}").content == path.read_bytes()
    numbers = json.loads((folder / "numbers.json").read_text())
    assert numbers["variants"]["digits/at"] == [0, 1]
    assert numbers["robust_overfitting"]["baseline"]["n"] == 2
    assert numbers["order_with_the_paper"]["RErr test"]["n"] == 4
    assert len(list(csv.DictReader(io.StringIO((folder / "table-1.csv").read_text())))) == 19


def test_only_reference_entries_of_recipes_as_they_are_count(tmp_path: Path) -> None:
    counted = factory.trained(tmp_path, "digits/at")
    factory.trained(tmp_path, "digits/awp", is_reference=False, quality=0.1)
    factory.trained(tmp_path, "digits/trades", digest="0" * 64, quality=0.2)
    factory.published(tmp_path, "a stranger's, without notes")
    (one,) = selectors.measured("digits-demo")
    assert (one.recipe.name, one.seed, one.epoch, one.epochs) == ("digits/at", 0, 120, 120)
    assert (one.title, one.url) == (counted.title, counted.get_absolute_url())
    assert set(one.numbers) == set(DIGITS_DEMO.columns())
    assert selectors.measured("digits-curve") == []


def test_where_a_training_was_repeated_the_last_one_counts(tmp_path: Path) -> None:
    urls = [factory.trained(tmp_path, "digits/at", quality=q).get_absolute_url() for q in (0.3, 0.6)]
    (one,) = selectors.measured("digits-demo")
    assert one.url == urls[-1]


def test_the_number_of_queries_does_not_grow_with_the_entries(
    client: Client, tmp_path: Path, django_assert_num_queries
) -> None:
    factory.trained(tmp_path, "digits/at")
    # how often, entries and their numbers, two empty protocols, the paper's rows, drawings
    with django_assert_num_queries(7):
        client.get("/analysis/")
    for name in VARIANTS[1:]:
        factory.trained(tmp_path, name)
    with django_assert_num_queries(7):
        client.get("/analysis/")
