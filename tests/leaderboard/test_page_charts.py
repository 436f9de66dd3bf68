"""Charts on pages: each can be had as every kind, is sent once, and is drawn once for all processes."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from django.core.cache import cache
from django.test import Client

from evaluator.shipped import DIGITS_DEMO
from leaderboard import board_chart, charts, drawings, page_charts, report, selectors
from leaderboard.analysis import STUDIES
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

STARTS = {"svg": b"<svg", "png": b"\x89PNG", "csv": b"", "vl.json": b"{"}


@pytest.fixture
def pages(tmp_path: Path) -> list[str]:
    """Publish two entries and return the pages that draw them."""
    first, second = (factory.trained(tmp_path, f"digits/{name}", quality=q) for name, q in (("at", 0.2), ("awp", 0.7)))
    return ["/", f"/compare/?e={first.slug}&e={second.slug}", "/analysis/"]


def test_every_chart_can_be_had_as_every_kind(client: Client, pages: list[str]) -> None:
    for address in pages:
        page = client.get(address).content.decode()
        foot = re.search(r'<div class="chart-foot.*?</div>', page, re.S)
        assert foot
        links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]+)"', foot[0])]
        assert len(links) == len(page_charts.KINDS)
        for link, (kind, start) in zip(links, STARTS.items(), strict=True):
            assert f".{kind}" in link
            response = client.get(link)
            assert response["Content-Type"] == page_charts.KINDS[kind]
            assert response.content.startswith(start)
            assert client.get(link, headers={"If-None-Match": response["ETag"]}).status_code == 304
        assert "<details>" in page


def test_a_page_names_the_specification_of_its_drawing_in_its_own_colours(client: Client, pages: list[str]) -> None:
    for address in pages:
        page = client.get(address).content.decode()
        (link, *_) = re.findall(r'data-specification="([^"]+)"', page)
        spec = json.loads(client.get(link.replace("&amp;", "&")).content)
        assert spec["title"]["color"] == "currentColor"
        assert "usermeta" in spec


def test_a_csv_of_points_holds_the_numbers_and_no_formula(client: Client, tmp_path: Path) -> None:
    factory.published(tmp_path, "=1+1", quality=0.5)
    text = client.get("/figures/robust-loss-against-flatness.csv").content.decode()
    (line,) = csv.DictReader(io.StringIO(text))
    assert line["title"] == "'=1+1"
    (row,) = selectors.board(DIGITS_DEMO).rows
    assert float(line["flatness_test_low"]) == row.numbers["flatness_test"].low


def test_the_analysis_never_waits_for_a_drawing_and_shows_those_that_any_process_made(
    client: Client, pages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(spec: object) -> str:
        raise AssertionError("drawn in the request of the page")

    with monkeypatch.context() as patch:
        patch.setattr(drawings, "render_svg", refuse)
        page = client.get("/analysis/").content.decode()
    images = re.findall(r'<img src="([^"]+)" width="\d+" height="\d+" loading="lazy"', page)
    assert len(images) == 4
    for image in images:
        drawing = client.get(image).content.decode()
        assert "prefers-color-scheme: dark" in drawing  # an image does not know the page's colours
    monkeypatch.setattr(drawings, "render_svg", refuse)  # as another process would, from here on
    page = client.get("/analysis/").content.decode()
    assert "<img" not in page.partition("<main")[2]
    assert page.count("<svg") == 4
    assert client.get(images[0].replace(".svg", ".vl.json")).status_code == 200


def test_another_number_makes_another_drawing_in_the_place_of_the_last(tmp_path: Path) -> None:
    factory.trained(tmp_path, "digits/at", quality=0.2)
    report.draw(selectors.evidence(STUDIES["digits"]))
    key = "drawing:digits/rloss-flatness"
    digest, _, first = cache.get(key)
    factory.trained(tmp_path, "digits/awp", quality=0.7)
    report.draw(selectors.evidence(STUDIES["digits"]))
    other, _, second = cache.get(key)
    assert digest != other
    assert first != second
    assert drawings.find({"digits/rloss-flatness": digest}) == {}
    assert drawings.find({"digits/rloss-flatness": other})["digits/rloss-flatness"].svg == second


def test_an_image_brings_the_colours_that_a_page_would_give_it() -> None:
    image = charts.as_image('<svg class="marks"><path/></svg>')
    assert image.startswith('<svg class="marks"><style>:root{color:#212529;')
    assert "--chart-point:#6ea8fe" in image
    assert image.endswith("<path/></svg>")


def test_the_frame_of_one_drawing_cuts_no_other_of_its_page(client: Client, tmp_path: Path) -> None:
    factory.published(tmp_path, "url(#clip1)", quality=0.5)
    drawn = re.search(r"<svg.*?</svg>", client.get("/").content.decode(), re.S)
    assert drawn
    other = charts.render_svg(board_chart.board_figure(selectors.board(DIGITS_DEMO), theme="dark"))
    names = [re.findall(r'<clipPath id="([^"]+)"', svg) for svg in (drawn[0], other)]
    assert all(names)
    assert not set(names[0]) & set(names[1])
    assert "clip1" not in names[0] + names[1]  # which a live drawing uses
    for svg, defined in zip((drawn[0], other), names, strict=True):
        used = re.findall(r'clip-path="url\(#([^)]+)\)"', svg)
        assert used
        assert set(used) <= set(defined)
    assert "url(#clip1)" in drawn[0]  # a title is text
