"""Every address is asked in every role; what comes back is looked at: status, headers, private things, secrets."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import override_settings

from evaluator import logs, worker
from leaderboard import selectors, services, tokens
from leaderboard.access import Rule, Scope
from tests.leaderboard import factory
from tests.leaderboard.test_access import views
from tests.test_house import ROOT

pytestmark = pytest.mark.django_db  # so that there is a database to make the site in

DOCUMENT = ROOT / "docs/security.md"
HEADING = "## Who may see what\n"
ROLES = ("anonymous", "another user", "owner", "staff, one factor", "staff", "token to read", "token to submit")
"""The tokens are the owner's."""

SAMPLES = {
    "kind": "svg",
    "study": "digits",
    "name": "table-1.csv",
    "action": "cancel",
    "key": "none",
    "figure": "none",
    "uidb36": "1",
    "digest": "none",
    "seed": "1",
    "rest": "none",
}
"""What stands for the parameters of addresses that name no submission."""

QUERIES = {"/api/v1/submissions/": "?title=AT&protocol=smoke&consent=true", "/api/v1/board": "?protocol=smoke"}

BODIES = {"POST": (b"x", "application/octet-stream"), "PATCH": (b"{}", "application/json")}

PRIVATE, PUBLIC = "zanzibar", "a public title"
SECRETS = {name: f"planted-{name}-0123456789abcdef" for name in ("secret-key", "database", "metrics", "password")}


class Answer(NamedTuple):
    address: str
    which: str
    role: str
    status: int
    headers: dict[str, str]
    body: str


class Site(NamedTuple):
    answers: list[Answer]
    log: str
    traces: list[str]
    token: str


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker, tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("matrix")
    with (
        pytest.MonkeyPatch.context() as patch,
        django_db_blocker.unblock(),
        override_settings(SECRET_KEY=SECRETS["secret-key"], METRICS_TOKEN=SECRETS["metrics"]),
    ):
        patch.setenv("RUN_STORE_URL", f"sqlite:///{folder / 'runs.sqlite3'}")
        patch.setenv("ARTIFACTS_URL", str(folder / "artifacts"))
        patch.setenv("AUDIT_SHARE", "0")  # what is made up is not made up twice alike
        patch.setattr(worker, "nudge", lambda run_id: None)
        patch.setitem(connection.settings_dict, "PASSWORD", SECRETS["database"])
        with transaction.atomic():
            site = _asked(folder, patch)
            transaction.set_rollback(True)
        services.run_store().close()
    return site


def _asked(folder: Path, patch: pytest.MonkeyPatch) -> Site:
    people = {name: User.objects.create(username=name.replace(" ", "-").replace(",", "")) for name in ROLES[1:5]}
    User.objects.filter(username__startswith="staff").update(is_staff=True)
    Authenticator.objects.create(user=people["staff"], type=Authenticator.Type.TOTP, data={"secret": "none"})
    submissions = {"public": factory.published(folder, PUBLIC, number=1), "private": factory.submit(folder, PRIVATE)}
    for which, submission in submissions.items():
        submission.owner, submission.is_private = people["owner"], which == "private"
        submission.save()
    private = submissions["private"]
    traces = [PRIVATE, private.slug, str(private.run_id), private.checkpoint_sha256]
    bearers = {
        "token to read": tokens.make(people["owner"], "read", [Scope.READ], days=1),
        "token to submit": tokens.make(people["owner"], "submit", [Scope.SUBMIT], days=1),
    }
    tokens.make(people["owner"], "to revoke", [Scope.READ], days=1)
    pk = str(people["owner"].tokens.get(name="to revoke").pk)
    with _Recorded() as log:
        answers = []
        for address in views():
            named = re.search(r"run_id|slug:slug", address)
            for which in submissions if named else ("",):
                about = submissions[which] if which else None
                path = filled(address.partition(" ")[2], pk, about and (about.run_id, about.slug))
                found = _in_every_role(address, path, which, people, bearers)
                if any(answer.status == 405 for answer in found):
                    found = _in_every_role(f"POST {address.partition(' ')[2]}", path, which, people, bearers)
                answers += found
        answers += _errors(patch)
    return Site(answers, "\n".join(log), traces, bearers["token to submit"])


def _in_every_role(
    address: str, path: str, which: str, people: dict[str, User], bearers: dict[str, str]
) -> list[Answer]:
    answers = []
    for role in ROLES:
        client = Client(raise_request_exception=False)
        if role in people:
            client.force_login(people[role])
        headers = {"Authorization": f"Bearer {bearers[role]}"} if role in bearers else {}
        answers.append(_ask(client, address, path, which, role, headers))
    return answers


def filled(route: str, pk: str, about: tuple[UUID, str] | None) -> str:
    values = SAMPLES | {"pk": pk} | ({"run_id": str(about[0]), "slug": about[1]} if about else {})
    return re.sub(r"[<{](?:\w+:)?(\w+)[>}]", lambda found: values[found[1]], route)


def _ask(client: Client, address: str, path: str, which: str, role: str, headers: dict[str, str]) -> Answer:
    method = address.partition(" ")[0]
    path += QUERIES.get(path, "")
    body, kind = BODIES.get(method, (b"", "application/octet-stream"))
    response = client.generic(method, path, body, kind, headers=headers)
    body = b"".join(response) if response.streaming else response.content
    return Answer(address, which, role, response.status_code, dict(response.headers), body.decode(errors="replace"))


def _errors(patch: pytest.MonkeyPatch) -> Iterator[Answer]:
    """Ask for pages of errors, one of a database that says its password."""

    def broken() -> None:
        raise RuntimeError(
            f"no answer from postgresql://site:{SECRETS['database']}@db/site?password={SECRETS['password']}"
        )

    client = Client(raise_request_exception=False)
    bearer = {"Authorization": f"Bearer {SECRETS['password']}"}
    yield _ask(client, "GET not found", f"/no/{PUBLIC}/", "", "anonymous", bearer)
    yield _ask(client, "GET bad host", "/", "", "anonymous", {"Host": "elsewhere.example"})
    yield _ask(client, "GET metrics", "/metrics", "", "anonymous", bearer)
    strict = Client(enforce_csrf_checks=True)
    yield _ask(strict, "POST forged", "/account/login/", "", "anonymous", {})
    with patch.context() as breaking:
        breaking.setattr(selectors, "reported", broken)
        yield _ask(client, "GET broken", "/reported/", "", "anonymous", {})


class _Recorded(logging.Handler):
    """Keeps what is logged, from the least important on, as our own formatter writes it."""

    def __enter__(self) -> list[str]:
        self.lines: list[str] = []
        self.setFormatter(logs.TextFormatter())
        root = logging.getLogger()
        self.before = root.level
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        return self.lines

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self)
        logging.getLogger().setLevel(self.before)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def table(site: Site) -> str:
    """Return the statuses by address and role as a table for the document."""
    rules = {address.partition(" ")[2]: view.rule for address, view in views().items()}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for answer in site.answers:
        if answer.address.partition(" ")[2] in rules:
            said = "sign in" if "/account/login/" in answer.headers.get("Location", "") else str(answer.status)
            rows.setdefault((answer.address, answer.which), {})[answer.role] = said
    lines = [f"| address | rule | {' | '.join(ROLES)} |", "|---" * (2 + len(ROLES)) + "|"]
    for (address, which), statuses in rows.items():
        rule = rules[address.partition(" ")[2]]
        name = re.sub(r"[<{](?:\w+:)?(\w+)[>}]", r"<\1>", address)
        cells = [f"`{name}`{f', {which}' if which else ''}", rule.name.lower().replace("_", " ")]
        lines.append(f"| {' | '.join([*cells, *(statuses[role] for role in ROLES)])} |")
    return "\n".join(lines)


def test_the_document_says_who_may_see_what(site: Site) -> None:
    text = DOCUMENT.read_text()
    after = text.partition(HEADING)[2].partition("\n| address |")[2]
    assert after, f"{DOCUMENT.name} needs the heading {HEADING!r} with a table"
    found = f"| address |{after}".split("\n\n")[0].rstrip()
    if os.environ.get("WRITE_DOCUMENTS") == "on":
        DOCUMENT.write_text(text.replace(found, table(site)))
    else:
        assert found == table(site), "run WRITE_DOCUMENTS=on python -m pytest tests/leaderboard/test_matrix.py"


def test_a_rule_is_kept_at_every_address(site: Site) -> None:
    known = views()
    refused = {
        Rule.SIGNED_IN: {"anonymous", "token to read", "token to submit"},
        Rule.OWNER: {"anonymous", "another user", "staff, one factor"},
        Rule.STAFF: {"anonymous", "another user", "owner", "staff, one factor"},
        Rule.MACHINE: {"anonymous", "another user", "owner", "staff, one factor", "staff"},
    }
    for answer in site.answers:
        view = known.get(answer.address)
        unfit = {"token to read"} if view and view.scope is Scope.SUBMIT else set()
        if view and answer.role in unfit | refused.get(view.rule, set()):
            sent_to_sign_in = answer.status == 302 and "/account/login/" in answer.headers["Location"]
            assert answer.status in (401, 403, 404) or sent_to_sign_in, answer[:4]
        assert answer.status < 500 or answer.address == "GET broken", answer[:4]


def test_what_is_private_is_seen_by_its_owner_and_staff_alone(site: Site) -> None:
    seen = set()
    for answer in site.answers:
        traces = [trace for trace in site.traces if trace in answer.body or trace in str(answer.headers)]
        if answer.which == "private":  # who asks for it has its address already
            traces = [PRIVATE] if PRIVATE in answer.body else []
        if traces:
            seen.add(answer.role)
            assert answer.role in ("owner", "staff", "token to read", "token to submit"), answer[:4]
    assert {"owner", "staff", "token to read"} <= seen


def test_no_page_and_no_line_of_the_log_holds_a_secret(site: Site) -> None:
    everything = site.log + "".join(answer.body + str(answer.headers) for answer in site.answers)
    assert "no answer from postgresql://" in site.log
    for secret in (*SECRETS.values(), site.token):
        assert secret not in everything


def test_every_answer_carries_the_headers_and_no_page_runs_or_loads_anything_foreign(site: Site) -> None:
    for answer in site.answers:
        if answer.address == "GET metrics":
            continue  # answered before all else, for machines
        headers = answer.headers
        assert "default-src 'self'" in headers["Content-Security-Policy"], answer[:4]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]
        if headers.get("Content-Type", "").startswith("text/html"):
            page = re.sub(r'xmlns(:xlink)?="[^"]+"', "", answer.body)
            assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page), answer[:4]
            assert not re.findall(r"<script(?![^>]*(?: src=| type=\"application/json\"))", page), answer[:4]
            assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", page), answer[:4]
