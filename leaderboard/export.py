"""The whole public site as files that need no server, with all its data: a board outlives its owner."""

import hashlib
import json
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from django.conf import settings
from django.db.models import Max
from django.template.loader import render_to_string
from django.test import Client  # asks the site as a browser does, middleware and all, without a server
from django.urls import Resolver404, resolve, reverse

from evaluator.exceptions import InvalidRequest
from evaluator.shipped import PROTOCOLS
from leaderboard import dump, report, selectors, throttling
from leaderboard.analysis import STUDIES
from leaderboard.models import Submission
from leaderboard.rewriting import beside, rewrite

PAGES: dict[str, frozenset[str]] = {
    "board": frozenset({"protocol", "version", "columns", "page"}),
    "board-csv": frozenset({"protocol", "version", "columns"}),
    "board-json": frozenset({"protocol", "version", "columns"}),
    "figure": frozenset({"protocol", "version", "columns"}),
    "analysis": frozenset({"study"}),
    "analysis-file": frozenset(),
    "entry": frozenset(),
    "entry-curves": frozenset(),
    "badge": frozenset(),
    "citation": frozenset(),
    "shape-file": frozenset(),
    "protocols": frozenset(),
    "reported": frozenset(),
    "about": frozenset(),
    "feed": frozenset(),
}
"""Which pages are copied, by the names of their addresses, and what in a query makes another file.

What is not here only a server can answer: accounts, forms, the API, and work that is under way.
"""

MANIFEST = "manifest.json"
_MARKUP = ("text/html", "image/svg+xml", "application/atom+xml")


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and a sentence for each thing that it left out."""

    files: dict[str, str]
    """The SHA-256 of each file, by its path."""
    notes: tuple[str, ...]


def export(folder: Path) -> Exported:
    """Write the site to `folder`, all at once and at last, in the place of an earlier export.

    The same state of the site makes the same files.

    Raises:
        InvalidRequest: the folder holds something else, or an entry was taken back meanwhile; nothing is changed.
        StoreUnavailable: the run store does not answer; nothing is changed.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} is there and is no export; name a new folder, or one that an export wrote")
    with throttling.unlimited(), _at_once(folder) as new:
        before, as_of = _published()
        copied = _copy(new, [reverse("entry", args=[slug]) for slug in sorted(before)])
        notes = dump.write(new / "data")
        _rewrite(new, copied, as_of)
        if gone := before - _published()[0]:
            raise InvalidRequest(
                f"{len(gone)} of {len(before)} entries were hidden or withdrawn while the site was copied; export again"
            )
        files = {
            path.relative_to(new).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(new.rglob("*"))
            if path.is_file()
        }
        document = {"schema_version": 1, "as_of": as_of and as_of.isoformat(), "sha256": files}
        (new / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return Exported(files, tuple(notes))


def _published() -> tuple[set[str], datetime | None]:
    """Return which entries there are, and when one of them changed last."""
    published = Submission.objects.filter(entry__isnull=False)
    return set(published.values_list("slug", flat=True)), published.aggregate(last=Max("updated_at"))["last"]


@contextmanager
def _at_once(folder: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of `folder` at the end of a block, unless the block fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = scratch / "new"
        new.mkdir(mode=0o755)
        yield new
        if folder.exists():
            folder.rename(scratch / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy(folder: Path, entries: Iterable[str]) -> dict[str, str]:
    """Fetch everything that can be reached below the addresses to begin with; return its files by address."""
    board = reverse("board")
    boards = [
        f"{board}?{urlencode({'protocol': one.name, 'version': one.version})}"
        for versions in PROTOCOLS.values()
        for one in versions
    ]
    studies = [f"{reverse('analysis')}?{urlencode({'study': name})}" for name in STUDIES]
    for study in STUDIES.values():
        report.draw(selectors.evidence(study))  # a page has the drawings that are there
    waiting = deque([board, *boards, *studies, *entries])
    client = Client(SERVER_NAME=urlsplit(_origin()).hostname)
    copied: dict[str, str] = {}
    asked: set[str] = set()
    while waiting:
        address = waiting.popleft()
        if address in asked:
            continue
        asked.add(address)
        response = client.get(address, secure=_origin().startswith("https"))
        if response.status_code != 200:
            continue
        copied[address] = _file(address)
        path = folder / copied[address]
        path.parent.mkdir(parents=True, exist_ok=True)
        content = response.getvalue()
        path.write_bytes(content)
        if response.headers["Content-Type"].startswith(_MARKUP):
            waiting.extend(_links(content.decode(), address))
    return copied


def _links(markup: str, address: str) -> list[str]:
    found: list[str] = []

    def note(link: str) -> None:
        there = _address(link, address)
        if there is not None:
            found.append(there)

    rewrite(markup, note)
    return found


def _rewrite(folder: Path, copied: dict[str, str], as_of: datetime | None) -> None:
    """Let the links of all copied pages lead to files, and say in each page what it is."""
    for address, here in copied.items():
        path = folder / here
        if path.suffix not in (".html", ".svg", ".atom"):
            continue

        def target(link: str, address: str = address, here: str = here) -> str | None:
            if not urljoin(_origin() + address, link).startswith(f"{_origin()}/"):
                return link
            file = copied.get(_address(link, address) or "")
            return file and beside(here, file + (f"#{urlsplit(link).fragment}" if urlsplit(link).fragment else ""))

        root = {"as_of": as_of, "data": beside(here, "data/x")[:-1], "manifest": beside(here, MANIFEST)}
        notice = render_to_string("leaderboard/exported.html", root)
        path.write_text(rewrite(path.read_text(encoding="utf-8"), target, notice), encoding="utf-8")


def _address(link: str, address: str) -> str | None:
    """Return a link of a page in the form in which it is copied, or None where it is not."""
    parts = urlsplit(urljoin(_origin() + address, link))
    if f"{parts.scheme}://{parts.netloc}" != _origin():
        return None
    if parts.path.startswith(settings.STATIC_URL):
        return parts.path
    try:
        fields = PAGES.get(resolve(parts.path).view_name)
    except Resolver404:
        return None
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "page" or (fields and name in fields)]
    if fields is None or any(name not in fields or (name == "columns" and value != "all") for name, value in query):
        return None
    return parts.path + (f"?{urlencode(query)}" if query else "")


def _file(address: str) -> str:
    path, _, query = address.partition("?")
    said = re.sub(r"[^A-Za-z0-9.]+", "-", query)
    folder, _, name = path.lstrip("/").rpartition("/")
    if not name:
        name = f"{said or 'index'}.html"
    elif said:
        stem, dot, kind = name.rpartition(".")
        name = f"{stem}-{said}{dot}{kind}"
    return f"{folder}/{name}" if folder else name


def _origin() -> str:
    """Return where the site says that it is: what citations and the feed name."""
    host = settings.ALLOWED_HOSTS[0].lstrip(".")
    return f"{'https' if settings.SECURE_SSL_REDIRECT else 'http'}://{'localhost' if host == '*' else host}"
