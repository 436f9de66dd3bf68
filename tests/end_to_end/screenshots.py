"""`make screenshots`: the site's pages on the demo's data, light, dark and on a phone, as small pictures for the docs.

The demo's databases are copied first: in the copy somebody signs up and hands in a checkpoint that nobody measures.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Page

from evaluator.store import RunStore
from tests.end_to_end.test_browser import chromium
from tests.end_to_end.test_fleet import _free_host
from tests.end_to_end.test_serve import wait_for
from tests.test_house import ROOT

FOLDER = ROOT / "docs" / "gallery"
DOCUMENT = ROOT / "docs" / "gallery.md"
HEIGHT = 1500
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": HEIGHT}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": HEIGHT}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": HEIGHT}, "color_scheme": "light"},
}

APPOINT = """
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
user = User.objects.get(username="staff")
Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
User.objects.filter(pk=user.pk).update(is_staff=True)
"""
"""What makes an account one of staff, who need a second factor."""


class Shown(NamedTuple):
    """A page of the gallery: its heading there and its address, with names of `addresses` in braces, and its reader."""

    title: str
    path: str
    who: str = ""


PAGES = {
    "board": Shown("The board", "/"),
    "narrowed": Shown("The board, narrowed by a search, with columns of one’s choice",
                      "/?q=at&columns=robust_error_test,clean_error_test,flatness_test,seconds,published"),
    "entry": Shown("An entry", "/entries/{first}/"),
    "training": Shown("How an entry was trained", "/entries/{trained}/#training"),
    "shape": Shown("The shape of its minimum", "/entries/{trained}/#shape"),
    "compare": Shown("Entries side by side", "/compare/?e={first}&e={second}"),
    "analysis": Shown("The analysis", "/analysis/"),
    "queue": Shown("The queue", "/queue/"),
    "protocols": Shown("The protocols", "/protocols/"),
    "reported": Shown("Reported by others", "/reported/"),
    "about": Shown("How to read the numbers", "/about/"),
    "sign-up": Shown("Signing up", "/account/signup/"),
    "submit": Shown("Handing in a checkpoint", "/submit/", "owner"),
    "submission": Shown("A submission that waits", "{submission}", "owner"),
    "edit": Shown("Correcting what was said of it", "{submission}edit/", "owner"),
    "tokens": Shown("Tokens for the API", "/account/tokens/", "owner"),
    "object": Shown("Objecting to an entry", "/entries/{second}/object/", "owner"),
    "moderation": Shown("What waits for staff", "/moderation/", "staff"),
    "trail": Shown("What staff did", "/moderation/trail/", "staff"),
    "train": Shown("Letting workers train", "/train/", "staff"),
}  # fmt: skip


def main() -> None:
    """Take all pictures anew, and write the page that shows them."""
    FOLDER.mkdir(exist_ok=True)
    with served() as (address, variables), chromium() as browser:
        people = {who: browser.new_context(base_url=address) for who in ("owner", "staff")}
        owner, staff = (signed_up(person.new_page(), who) for who, person in people.items())
        known = addresses(owner)
        _manage(variables, "shell", "-c", APPOINT)
        decide(staff)
        for look, settings in LOOKS.items():
            for name, shown in PAGES.items():
                state = people[shown.who].storage_state() if shown.who else None
                context = browser.new_context(base_url=address, storage_state=state, **settings)
                page = context.new_page()
                page.goto(shown.path.format(**known))
                page.wait_for_load_state("networkidle")  # charts have come to life
                picture = small(page.screenshot(animations="disabled"))
                (FOLDER / f"{name}-{look}.webp").write_bytes(picture)
                print(f"{name}-{look}: {len(picture):,} bytes")
                context.close()
    DOCUMENT.write_text(gallery())


@contextmanager
def served() -> Iterator[tuple[str, dict[str, str]]]:
    """Serve a copy of the demo's site, without workers, and yield its address and variables."""
    with tempfile.TemporaryDirectory(prefix="gallery-") as name:
        for one in ("site", "runs"):
            source = sqlite3.connect(f"file:{ROOT}/var/{one}.sqlite3?mode=ro", uri=True)
            with closing(source), closing(sqlite3.connect(f"{name}/{one}.sqlite3")) as copy:
                source.backup(copy)
        variables = os.environ | {
            "DATABASE_URL": f"sqlite:///{name}/site.sqlite3",
            "RUN_STORE_URL": f"sqlite:///{name}/runs.sqlite3",
            "QUEUE_URL": f"sqla+sqlite:///{name}/broker.sqlite3",
            "ARTIFACTS_URL": f"{name}/artifacts",
        }
        store = RunStore(variables["RUN_STORE_URL"])
        store.create_tables()  # with what is new since the demo was made
        store.close()
        for command in ("migrate", "import_reference"):
            subprocess.run([sys.executable, "manage.py", command, "--verbosity=0"], cwd=ROOT, env=variables, check=True)
        host = _free_host()
        command = [sys.executable, "manage.py", "runserver", "--noreload", host]
        with subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.DEVNULL) as site:
            try:
                wait_for(f"http://{host}/queue/", "Nothing waits")
                yield f"http://{host}", variables
            finally:
                site.terminate()


def _manage(variables: dict[str, str], *arguments: str) -> None:
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=variables, check=True)


def signed_up(page: Page, name: str) -> Page:
    """Sign up under a name, and return the page."""
    page.goto("/account/signup/")
    page.locator("[name=username]").fill(name)
    for field in ("password1", "password2"):
        page.locator(f"[name={field}]").fill("a long enough one")
    page.locator("[name=password2]").press("Enter")
    page.wait_for_url("/")
    return page


def decide(page: Page) -> None:
    """As staff, suspend an entry, so that something waits and something was done."""
    last = page.request.get("/board.json").json()["entries"][-1]["slug"]
    run_id = page.request.get(f"/api/v1/entries/{last}/").json()["run_id"]
    page.goto(f"/submissions/{run_id}/")
    page.get_by_label("Reason to: Suspend").fill("its maker asked for time to look into a question of a reader")
    page.get_by_role("button", name="Suspend").click()
    page.get_by_text("It is suspended.").wait_for()


def addresses(page: Page) -> dict[str, str]:
    """Hand in a checkpoint, object to an entry, and return what stands for the names in `PAGES`."""
    page.goto("/account/tokens/")  # which asks for the password once more
    page.locator("[name=password]").fill("a long enough one")
    page.locator("[name=password]").press("Enter")
    page.get_by_role("heading", name="token").first.wait_for()
    page.goto("/submit/")
    page.get_by_label("Checkpoint").set_input_files(ROOT / "fixtures" / "tiny.safetensors")
    page.get_by_label("Protocol").select_option("digits-demo")
    page.get_by_label("Title").fill("A small network")
    page.get_by_label("I may hand in").check()
    page.get_by_role("button", name="Hand in").click()
    page.wait_for_url("**/submissions/**")
    submission = urlsplit(page.url).path
    entries = page.request.get("/board.json").json()["entries"]
    (first, second, *_), (trained,) = entries, (entry for entry in entries if entry["title"] == "AT")
    page.goto(f"/entries/{first['slug']}/object/")
    page.locator("textarea").fill("Which commit of the recipe was this trained with? Its notes do not say.")
    page.locator("main form button").click()
    slugs = {"first": first["slug"], "second": second["slug"], "trained": trained["slug"]}
    return {"submission": submission, **slugs}


def small(picture: bytes, colours: int = 64) -> bytes:
    """Return a picture as WebP with few colours, which suits pages of text and lines."""
    few = Image.open(BytesIO(picture)).convert("RGB").quantize(colours, dither=Image.Dither.NONE).convert("RGB")
    out = BytesIO()
    few.save(out, "WEBP", lossless=True, method=6)
    return out.getvalue()


def gallery() -> str:
    """Return the page that shows every picture."""
    parts = [
        "# The site in pictures",
        "",
        "Made by `make screenshots` from what `make demo` measures; each opens full size.",
    ]
    for name, shown in PAGES.items():
        parts += ["", f"## {shown.title}", "", f"| {' | '.join(LOOKS)} |", "|---" * len(LOOKS) + "|"]
        cells = [f"![{shown.title}, {look}](gallery/{name}-{look}.webp)" for look in LOOKS]
        parts.append(f"| {' | '.join(cells)} |")
    return "\n".join([*parts, ""])


if __name__ == "__main__":
    main()
