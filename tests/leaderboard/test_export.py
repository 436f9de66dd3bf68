"""The exported site is whole: every link leads to a file, nothing private is in it, and it comes all at once."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from playwright.sync_api import sync_playwright

from evaluator import intervals, worker
from leaderboard import board, charts, dump, services
from leaderboard import export as exporting
from leaderboard.export import MANIFEST
from leaderboard.rewriting import beside, rewrite
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db  # so that there is a database to make the site in

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
HIDDEN = "zanzibar"
NUMBERS = ("value", "low", "high", "n")


class Copy(NamedTuple):
    folder: Path
    again: Path
    """The same site, exported a second time."""
    slugs: list[str]
    traces: list[str]
    """Of what nobody may find."""


@pytest.fixture(scope="module")
def copy(django_db_setup: None, django_db_blocker, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock():
        patch.setattr(worker, "nudge", lambda run_id: None)
        patch.setattr(intervals, "RESAMPLES", 100)
        patch.setattr(board, "ROWS", 1)
        patch.setattr(charts, "render_png", lambda spec: b"PNG")  # of a study; the board's is drawn
        patch.setenv("RUN_STORE_URL", f"sqlite:///{folder / 'runs.sqlite3'}")
        patch.setenv("ARTIFACTS_URL", str(folder / "artifacts"))
        patch.setenv("AUDIT_SHARE", "0")  # what is made up is not made up twice alike
        with transaction.atomic():
            public = [
                factory.trained(folder, "digits/at", quality=0.9),
                factory.published(folder, "=1+<b>handed</b> in", number=2, quality=0.2),
            ]
            hidden = [factory.published(folder, f"{HIDDEN} {number}", number=number) for number in (3, 4)]
            services.hide(hidden[0])
            services.withdraw(hidden[1])
            hidden += [factory.submit(folder, f"{HIDDEN} 5", number=5)]
            call_command("import_reference", verbosity=0)
            for name in ("copy", "again"):
                call_command("export", str(folder / name), stdout=io.StringIO())
            transaction.set_rollback(True)
        services.run_store().close()
    traces = [HIDDEN] + [trace for one in hidden for trace in (str(one.run_id), one.checkpoint_sha256)]
    return Copy(folder / "copy", folder / "again", [one.slug for one in public], traces)


def files(copy: Copy) -> dict[str, Path]:
    return {path.relative_to(copy.folder).as_posix(): path for path in copy.folder.rglob("*") if path.is_file()}


def test_every_link_leads_to_a_file_of_the_copy_and_to_something_in_it(copy: Copy) -> None:
    followed = 0
    for path in files(copy).values():
        if path.suffix not in (".html", ".svg", ".atom"):
            continue
        page = path.read_text()
        for link in re.findall(r'\s(?:href|src|xlink:href|action)="([^"]*)"', page):
            if link.startswith("data:") or f'<a href="{link}" rel="nofollow noopener"' in page:  # a paper, elsewhere
                continue
            parts = urlsplit(link)
            assert not parts.scheme, (path, link)
            assert not parts.netloc, (path, link)
            assert not parts.query, (path, link)
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert there.is_file(), (path, link)
            assert there.is_relative_to(copy.folder), (path, link)
            assert not parts.fragment or f'id="{parts.fragment}"' in there.read_text(), (path, link)
            followed += 1
    assert followed > 100


def test_the_board_is_there_to_its_last_page_with_its_other_forms_and_all_entries(copy: Copy) -> None:
    there = files(copy)
    view = "protocol-digits-demo-version-1"
    for name in (
        "index.html", f"{view}.html", f"{view}-page-2.html", f"board-{view}.csv", f"board-{view}.json", "feed.atom",
        f"figures/robust-loss-against-flatness-{view}.svg", f"figures/robust-loss-against-flatness-{view}.png",
        "analysis/index.html", "analysis/digits/table-1.csv", "about/index.html", "reported/index.html",
        *(f"entries/{slug}/{name}" for slug in copy.slugs for name in ("index.html", "badge.svg", "cite.bib")),
    ):  # fmt: skip
        assert name in there, sorted(there)


def test_what_only_a_server_can_answer_is_left_out_and_every_page_says_so(copy: Copy) -> None:
    for path in files(copy).values():
        if path.suffix == ".html":
            page = path.read_text()
            assert "a copy of the site" in page
            assert not re.findall(r"<(?:form|input|button|script|search)\b|Sign in|Queue</a>", page), path


def test_nothing_of_what_is_hidden_withdrawn_or_not_measured_is_anywhere(copy: Copy) -> None:
    for path in files(copy).values():
        content = path.read_bytes()
        assert not [trace for trace in copy.traces if trace.encode() in content or trace in str(path)], path


def test_the_manifest_names_each_file_with_its_hash_and_the_same_site_makes_the_same(copy: Copy) -> None:
    manifest = json.loads((copy.folder / MANIFEST).read_text())
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files(copy).items()}
    del hashes[MANIFEST]
    assert manifest["sha256"] == hashes
    assert json.loads((copy.again / MANIFEST).read_text()) == manifest
    assert not list(copy.folder.parent.glob(".*"))


def test_the_data_holds_the_same_entries_and_numbers_in_each_format(copy: Copy) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    data = copy.folder / "data"
    for name in ("entries", "measurements"):
        rows = json.loads((data / f"{name}.json").read_text())
        with (data / f"{name}.csv").open(newline="") as stream:
            cells = list(csv.DictReader(stream))
        table = parquet.read_table(data / f"{name}.parquet").to_pylist()
        assert {row["slug"] for row in rows} == set(copy.slugs)
        assert [row["slug"] for row in cells] == [row["slug"] for row in table] == [row["slug"] for row in rows]
        if name == "measurements":
            for row, cell, line in zip(rows, cells, table, strict=True):
                assert row == line
                assert [row[end] for end in NUMBERS] == [float(cell[end]) for end in NUMBERS]
        else:
            assert [cell["title"][0] for cell in cells if "handed" in cell["title"]] == ["'"]  # no formula


def test_the_outcomes_of_every_example_stand_beside_the_numbers_that_follow_from_them(copy: Copy) -> None:
    entries = {row["slug"]: row for row in json.loads((copy.folder / "data/entries.json").read_text())}
    for slug in copy.slugs:
        shards = [json.loads(line) for line in (copy.folder / f"data/outcomes/{slug}.jsonl").read_text().splitlines()]
        broken = [
            (one["shard"]["start"], one["values"]["broken_by"])
            for one in shards
            if (one["shard"]["stage"], one["shard"]["split"]) == ("autoattack", "test")
        ]
        causes = [cause for _, values in sorted(broken) for cause in values]
        assert "".join("01"[cause == "robust"] for cause in causes) == entries[slug]["robust_on_test"]


def test_a_folder_that_is_no_export_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("dear")
    with pytest.raises(CommandError, match="is there and is no export"):
        call_command("export", str(tmp_path / "letters"))
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["dear.txt"]


@pytest.mark.parametrize("trouble", ["withdrawn", "broken"])
def test_an_export_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    def write(folder: Path) -> list[str]:
        if trouble == "broken":
            raise OSError("no space left")
        services.withdraw(submission)
        return []

    submission = factory.published(tmp_path)
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / MANIFEST).write_text("{}")
    monkeypatch.setattr(exporting, "_copy", lambda folder, entries: {})
    monkeypatch.setattr(dump, "write", write)
    with pytest.raises(CommandError, match=r"export again|no space left"):
        call_command("export", str(folder))
    assert (folder / MANIFEST).read_text() == "{}"
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_rewriting_changes_nothing_but_links() -> None:
    drawing = '<svg viewBox="0 0 1 1"><clipPath id="a"><rect width="1"/></clipPath><a href="/x">&lt;&#8776; é</a></svg>'
    assert rewrite(drawing, lambda link: link) == drawing
    assert rewrite(drawing, lambda link: "y.html?a&b") == drawing.replace("/x", "y.html?a&amp;b")


def test_a_dead_link_keeps_its_text_and_goes_from_navigation() -> None:
    page = '<nav><a href="/a">a</a></nav><p><a class="c" href="/b">b</a></p><form action="/"><input><b>c</b></form>'
    assert rewrite(page, lambda link: None) == '<nav></nav><p><a class="c">b</a></p><b>c</b>'


def test_links_between_files_are_relative() -> None:
    assert beside("entries/a/index.html", "index.html#x") == "../../index.html#x"
    assert beside("index.html", "entries/a/index.html") == "entries/a/index.html"
    assert beside("analysis/index.html", "analysis/digits/t.csv") == "digits/t.csv"


@pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium or name one in CHROMIUM")
def test_a_reader_goes_from_the_board_to_an_entry_and_back_without_a_server(copy: Copy) -> None:
    complaints: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((copy.folder / "index.html").as_uri())
        assert page.evaluate("getComputedStyle(document.querySelector('.container-xxl')).paddingLeft") != "0px"
        title = page.locator("tbody th a").first.inner_text()
        page.locator("tbody th a").first.click()
        assert page.get_by_role("heading", level=1).inner_text() == title
        page.get_by_role("navigation", name="Site").get_by_role("link", name="Board", exact=True).click()
        assert page.locator("tbody th a").first.inner_text() == title
        page.get_by_role("link", name="Analysis").click()
        browser.close()
    assert complaints == []
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((copy.folder.as_uri(), "data:"))] == []
