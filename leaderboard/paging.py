"""Long lists a page at a time: each page ends with the slug after which the next one begins.

Nothing is counted off, so that a page holds what comes after the last one however much came in before it meanwhile.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet
from ninja import Field, Schema

from evaluator.exceptions import InvalidRequest

Item = TypeVar("Item")
Found = TypeVar("Found", bound=Model)


class Paging(Schema):
    """Which page: so many at most, those after the one with a slug, which the page before it says as `next`."""

    after: str = Field("", max_length=120, pattern=r"^[-a-zA-Z0-9_]*$")
    limit: int = Field(100, ge=1, le=500)


def cut(items: Sequence[Item], slugs: Sequence[str], paging: Paging) -> tuple[Sequence[Item], str | None]:
    """Return one page of what is in memory, and the slug after which the next page begins, if there is one.

    Raises:
        InvalidRequest: nothing has the slug; it may have gone since.
    """
    if paging.after and paging.after not in slugs:
        raise _gone(paging)
    start = slugs.index(paging.after) + 1 if paging.after else 0
    stop = start + paging.limit
    return items[start:stop], slugs[stop - 1] if stop < len(items) else None


def newest_first(rows: "QuerySet[Found]", paging: Paging, *, slug: str, at: str) -> tuple[Sequence[Found], str | None]:
    """Return one page of rows, newest first, as `cut` does; `slug` and `at` say where their slug and time stand.

    Raises:
        InvalidRequest: nothing has the slug; it may have gone since.
    """
    if paging.after:
        last = rows.filter(**{slug: paging.after}).values_list(at, "pk").first()
        if last is None:
            raise _gone(paging)
        rows = rows.filter(Q(**{f"{at}__lt": last[0]}) | Q(**{at: last[0], "pk__lt": last[1]}))
    found: list[Any] = list(rows.order_by(f"-{at}", "-pk")[: paging.limit + 1])
    page = found[: paging.limit]
    if len(found) == len(page):
        return page, None
    end: Any = page[-1]
    for name in slug.split("__"):
        end = getattr(end, name)
    return page, str(end)


def _gone(paging: Paging) -> InvalidRequest:
    return InvalidRequest(f"nothing here is called {paging.after!r} any more; begin again without after")
