"""What a reader can do with a chart in the page: read values, zoom and pan, hide series (pure).

All of it stands in the specification itself, so that any renderer of Vega-Lite offers it; `usermeta` tells the page's
script which buttons to put beside the drawing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

# A wheel alone scrolls the page; with Ctrl, as a pinch on a trackpad reports itself, it zooms.
_WHEEL = "wheel![event.ctrlKey || event.metaKey]"

Zoom = Mapping[str, tuple[float, float]]
"""What a reader can zoom into, `x` and `y` of the rows, each with the least and greatest value shown at first."""


def interactive(spec: dict[str, Any], zooms: Sequence[Zoom], series: Sequence[str]) -> dict[str, Any]:
    """Return a specification whose scales follow the reader, and whose `series` can be hidden.

    Dragging moves a frame, a double click puts it back. With one zoom all frames move as one, with several each has
    its own. The first layer of each frame has to show the fields themselves, as Vega-Lite names signals by them.
    """
    frames = spec.get("concat", [spec])
    views = [f"frame_{position}" for position in range(len(frames))]
    for frame, name in zip(frames, views, strict=True):
        frame["layer"][0]["name"] = name
    params: list[dict[str, Any]] = []
    first: dict[str, list[float]] = {}
    for position, zoom in enumerate(zooms):
        name, of = ("zoom", views) if len(zooms) == 1 else (f"zoom_{position}", [views[position]])
        select = {"type": "interval", "encodings": list(zoom), "zoom": _WHEEL}
        params.append({"name": name, "select": select, "bind": "scales", "views": of})
        first |= {f"{name}_{field}": [float(end) for end in ends] for field, ends in zoom.items()}
    if series:
        params.append({"name": "hidden", "value": []})
    return spec | {"params": params, "usermeta": {"zoom": first, "series": list(series)}}


def shown_series(layer: Any) -> Any:
    """Return a layer without the series that the reader has hidden; its rows carry their position as `path`."""
    return layer.transform_filter("indexof(hidden, datum.path) < 0")


def tooltip(**titles: str) -> list[Any]:
    """Return the channel of what stands beside the pointer: titles by the fields of rows that hold it as text."""
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in titles.items()]
