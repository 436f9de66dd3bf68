"""Drawings that take long are made once, by whichever process is asked first, and kept where all processes find them.

Each place on the site keeps its last drawing alone, so that they stay few; what is drawn there now is told by a digest
of the numbers and of the code that draws.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache as once
from pathlib import Path
from typing import Any, NamedTuple

import altair
import vl_convert
from django.core.cache import cache

from leaderboard.charts import render_svg

_CODE = ("charts", "study_charts", "curve_charts", "interaction", "labels", "figures")
"""The modules that decide how numbers look."""


class Drawn(NamedTuple):
    """A chart's specification as JSON, and its drawing."""

    spec: str
    svg: str


def digest(numbers: Any) -> str:
    """Return what tells a chart of these numbers from every other, by their `repr`."""
    return hashlib.sha256(f"{_code()} {numbers!r}".encode()).hexdigest()


def find(wanted: Mapping[str, str]) -> dict[str, Drawn]:
    """Return those of the drawings, by place with their digests, that some process has made already."""
    kept = cache.get_many([_key(place) for place in wanted])
    found = {place: kept.get(_key(place), ("",)) for place in wanted}
    return {place: Drawn(*parts) for place, (made_of, *parts) in found.items() if made_of == wanted[place]}


def drawn(place: str, made_of: str, specify: Callable[[], dict[str, Any]]) -> Drawn:
    """Return the drawing of a place, made where it is missing."""
    if found := find({place: made_of}):
        return found[place]
    made = draw(specify())
    cache.set(_key(place), (made_of, *made), timeout=None)
    return made


def draw(spec: dict[str, Any]) -> Drawn:
    """Return a specification with its drawing."""
    return Drawn(json.dumps(spec, sort_keys=True, ensure_ascii=False), render_svg(spec))


def _key(place: str) -> str:
    return f"drawing:{place}"


@once
def _code() -> str:
    text = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in _CODE)
    return f"{altair.__version__} {vl_convert.__version__} {hashlib.sha256(text).hexdigest()}"
