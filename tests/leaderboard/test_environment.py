"""Settings from the environment: wrong values stop the start with a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from leaderboard import environment

ROOT = Path(__file__).resolve().parents[2]


def test_a_relative_sqlite_address_counts_from_the_root_and_writes_wait_their_turn(tmp_path: Path) -> None:
    found = environment.database("NONE", "sqlite:///var/site.sqlite3", root=tmp_path)
    assert found["NAME"] == tmp_path / "var" / "site.sqlite3"
    assert found["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert found["OPTIONS"]["timeout"] == 20
    absolute = environment.database("NONE", f"sqlite:///{tmp_path}/a.sqlite3", root=Path("elsewhere"))
    assert absolute["NAME"] == tmp_path / "a.sqlite3"


def test_a_postgresql_address_is_taken_apart(tmp_path: Path) -> None:
    url = "postgresql://board:p%40ss@db.example:5433/site?sslmode=require"
    found = environment.database("NONE", url, root=tmp_path)
    expected = {"NAME": "site", "USER": "board", "PASSWORD": "p@ss", "HOST": "db.example", "PORT": "5433"}
    assert expected.items() <= found.items()
    assert found["OPTIONS"] == {"sslmode": "require"}


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite://", "postgresql://host", "site.sqlite3"])
def test_another_database_address_is_refused_without_repeating_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="it must be sqlite:///FILE or postgresql://"):
        environment.database("NONE", url, root=tmp_path)


def test_a_switch_is_on_or_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUG", "true")
    with pytest.raises(ImproperlyConfigured, match="DEBUG is 'true'; it must be on or off"):
        environment.switch("DEBUG", default=False)
    monkeypatch.setenv("DEBUG", "on")
    assert environment.switch("DEBUG", default=False)


@pytest.mark.parametrize(
    "value", ["short", "nineteen-characters", "twenty characters and spaces", "zwanzig-Zeichen-für-Umlaute"]
)
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused_without_repeating_it(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METRICS_TOKEN", value)
    with pytest.raises(ImproperlyConfigured, match=r"METRICS_TOKEN has .* it needs 20 or more") as refusal:
        environment.token("METRICS_TOKEN")
    assert value not in str(refusal.value)


def test_no_token_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TOKEN", "")
    assert environment.token("METRICS_TOKEN") == ""
    monkeypatch.setenv("METRICS_TOKEN", "a" * 20)
    assert environment.token("METRICS_TOKEN") == "a" * 20


def test_an_embedded_site_makes_its_secret_once_and_others_must_bring_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECRET_KEY", raising=False)
    file = tmp_path / "var" / "secret_key"
    secret = environment.secret("SECRET_KEY", file, embedded=True)
    assert len(secret) >= 50
    assert environment.secret("SECRET_KEY", file, embedded=True) == secret
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY is not set"):
        environment.secret("SECRET_KEY", file, embedded=False)


@pytest.mark.django_db
def test_the_migrations_hold_every_change_of_the_models() -> None:
    call_command("makemigrations", check=True, dry_run=True)


def test_a_hardened_site_passes_djangos_deployment_check() -> None:
    variables = {"HTTPS": "on", "SECRET_KEY": "".join(map(chr, range(48, 123))), "ALLOWED_HOSTS": "board.example"}
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level=WARNING"],
        cwd=ROOT, env=os.environ | variables, capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
