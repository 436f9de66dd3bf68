"""The site's services and pages on a real PostgreSQL server."""

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import postgresql

ROOT = Path(__file__).resolve().parents[2]


def test_services_and_pages_hold_on_postgresql():
    with postgresql() as url:
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
             "tests/leaderboard/test_services.py", "tests/leaderboard/test_pages.py", "tests/leaderboard/test_board.py",
             "tests/leaderboard/test_health.py", "tests/leaderboard/test_monitoring.py",
             "tests/leaderboard/test_queue.py", "tests/leaderboard/test_submission_api.py"],
            cwd=ROOT, env=os.environ | {"DATABASE_URL": url, "SECRET_KEY": "for tests only"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " passed" in finished.stdout
