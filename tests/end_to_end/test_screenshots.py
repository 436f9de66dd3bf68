"""The gallery shows every page of the navigation, whole and in pictures small enough to be kept with the source."""

import re
from io import BytesIO

from django.urls import reverse
from PIL import Image

from tests.end_to_end.screenshots import DOCUMENT, FOLDER, LOOKS, PAGES, gallery, small
from tests.test_house import ROOT

BASE = ROOT / "leaderboard" / "templates" / "leaderboard" / "base.html"


def test_every_picture_is_there_and_small_and_shown() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(sizes) == {f"{name}-{look}.webp" for name in PAGES for look in LOOKS}
    assert max(sizes.values()) < 100_000
    assert sum(sizes.values()) < 2_500_000
    assert DOCUMENT.read_text() == gallery()


def test_every_page_of_the_navigation_is_shown() -> None:
    navigation = BASE.read_text().partition('<nav aria-label="Site">')[2].partition("</nav>")[0]
    names = set(re.findall(r"\{% url '([\w-]+)' %\}", navigation))
    assert len(names) > 4
    assert {reverse(name) for name in names} <= {shown.path for shown in PAGES.values()}


def test_a_picture_becomes_smaller_and_keeps_its_size_and_what_it_shows() -> None:
    wide = Image.linear_gradient("L").resize((600, 300)).convert("RGB")
    before = BytesIO()
    wide.save(before, "PNG")
    after = Image.open(BytesIO(small(before.getvalue(), colours=8))).convert("RGB")
    assert after.size == wide.size
    assert len(after.getcolors()) <= 8
    assert after.getpixel((300, 5))[0] < 40 < 215 < after.getpixel((300, 295))[0]
