"""What leads to entries from elsewhere: a badge with the rank, a citation, a feed of what is new."""

import json
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.feedgenerator import Atom1Feed
from django.views.decorators.http import require_safe

from evaluator.protocol import from_json
from leaderboard import selectors
from leaderboard.access import Rule, access
from leaderboard.listing import listing, stamps
from leaderboard.models import Entry

NEWEST = 50
"""So many entries stand in the feed."""

_CHARACTER = 6.6
"""About the width of a character of the badge, whose text is drawn to just this length, in pixels."""

_ESCAPES = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "{}%&$#_"},
}  # fmt: skip


@access(Rule.VISIBLE)
@require_safe
def badge(request: HttpRequest, slug: str) -> HttpResponse:
    """Draw where an entry stands at present, for a page elsewhere."""
    entry = _published(slug)
    protocol = from_json(json.dumps(entry.submission.protocol))
    rows = listing(protocol, stamps()).rows
    standing = next((row.standing for row in rows if row.slug == slug), None)
    said = f"rank {standing.rank} of {sum(row.standing is not None for row in rows)}" if standing else "not ranked"
    name, position, parts = protocol.label, 0.0, []
    for text, fill in ((name, "#495057"), (said, "#0b5ed7" if standing else "#6c757d")):
        length = round(_CHARACTER * len(text), 1)
        parts.append({"text": text, "fill": fill, "x": position, "width": round(length + 12, 1), "length": length})
        position = round(position + length + 12, 1)
    return render(request, "leaderboard/badge.svg", {"parts": parts, "width": position}, "image/svg+xml")


@access(Rule.VISIBLE)
@require_safe
def citation(request: HttpRequest, slug: str) -> HttpResponse:
    """Give an entry as BibTeX."""
    return HttpResponse(bibtex(_published(slug), request), content_type="application/x-bibtex; charset=utf-8")


@access(Rule.PUBLIC)
@require_safe
def feed(request: HttpRequest) -> HttpResponse:
    """Give the newest entries as an Atom feed."""
    feed = Atom1Feed(
        title="Robust leaderboard: new entries",
        link=request.build_absolute_uri(reverse("board")),
        description="Classifiers whose robustness and flatness were measured, newest first.",
        feed_url=request.build_absolute_uri(),
        language="en",
    )
    newest = Entry.objects.select_related("submission").prefetch_related("measurements")
    for entry in newest.order_by("-submission__published_at", "-pk")[:NEWEST]:
        submission, numbers = entry.submission, selectors.numbers(entry)
        error = numbers.get("robust_error_test")
        feed.add_item(
            title=submission.title,
            link=request.build_absolute_uri(submission.get_absolute_url()),
            description=f"{submission.manifest['architecture']} under {submission.protocol_label}"
            + (f": robust error {100 * error.value:.1f} % on test" if error else ""),
            unique_id=f"urn:uuid:{submission.run_id}",
            pubdate=submission.published_at,
            updateddate=submission.updated_at,
        )
    return HttpResponse(feed.writeString("utf-8"), content_type="application/atom+xml; charset=utf-8")


def bibtex(entry: Entry, request: HttpRequest) -> str:
    """Return an entry as BibTeX, under its address at the site that is asked; it names no people."""
    submission = entry.submission
    fields: dict[str, Any] = {
        "title": f"{_escaped(submission.title)}: robustness and flatness under {_escaped(submission.protocol_label)}",
        "howpublished": "Robust leaderboard",
        "year": f"{submission.published_at:%Y}",
        "note": f"Checkpoint sha256 {submission.checkpoint_sha256}",
        "url": request.build_absolute_uri(submission.get_absolute_url()),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@misc{{{submission.slug},", *lines, "}", ""])


def _published(slug: str) -> Entry:
    entry = selectors.entry(slug)
    if entry is None:
        raise Http404
    return entry


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(sign, sign) for sign in text)
