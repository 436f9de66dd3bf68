"""A site that is deployed as the documents say passes Django's own checks, and its cookies are for https alone."""

import os
import subprocess
import sys
from pathlib import Path

from tests.test_house import ROOT

DEPLOYED = {
    "HTTPS": "on",
    "BEHIND_PROXY": "on",
    "ALLOWED_HOSTS": "board.example",
    "SECRET_KEY": "0123456789abcdefghij" * 3,
}


def test_a_deployed_site_passes_every_check_of_django(tmp_path: Path) -> None:
    environment = os.environ | DEPLOYED | {"DATABASE_URL": f"sqlite:///{tmp_path / 'site.sqlite3'}"}
    code = """
from django.conf import settings
from django.core.management import ManagementUtility
ManagementUtility(["manage.py", "check", "--deploy", "--fail-level", "DEBUG"]).execute()
print(settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, settings.SESSION_COOKIE_SECURE)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment | {"DJANGO_SETTINGS_MODULE": "leaderboard.settings"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "no issues" in finished.stdout
    assert "__Host-session __Host-csrf True" in finished.stdout
