"""The site beside the workers: its commands, on a database of its own."""

import os
import subprocess
import sys
from uuid import UUID

from evaluator.lifetime import end_with_parent
from evaluator.protocol import EvaluationProtocol, to_json
from fixtures.make_tiny import TINY
from tests.workers import ROOT, Evaluation

SUBMIT = """
import sys
from pathlib import Path
import django
django.setup()
from evaluator.lifetime import end_with_parent
from evaluator.protocol import from_json
from leaderboard import services
for number, text in enumerate(sys.argv[2:]):
    print(services.submit(Path(sys.argv[1]), title=f"Model {number}", protocol=from_json(text)).run_id)
"""

ENTRIES = """
import django
django.setup()
from leaderboard.models import Entry
for entry in Entry.objects.all():
    print(entry.run_id, entry.measurements.count())
"""

SWEEPS = """
import time
import django
django.setup()
from leaderboard import services
while True:
    try:
        services.sweep()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    time.sleep(1)
"""
"""What the site's worker does every 15 seconds, every second; what goes wrong is for the next time there too."""


class Site:
    """Processes of the site; nothing of it runs between two calls, unless `sweeping` was asked for."""

    def __init__(self, place: Evaluation) -> None:
        self._place = place
        self.variables = os.environ | place.variables
        self.variables |= {
            "DJANGO_SETTINGS_MODULE": "leaderboard.settings",
            "SECRET_KEY": "for tests only",
            "DATABASE_URL": f"sqlite:///{place.folder / 'site.sqlite3'}",
        }
        self._run("manage.py", "migrate", "--verbosity=0")

    def submit(self, *protocols: EvaluationProtocol) -> list[UUID]:
        """Hand a checkpoint in under each protocol and return the ids of the runs."""
        return [UUID(line) for line in self._run("-c", SUBMIT, str(TINY), *map(to_json, protocols)).splitlines()]

    def sweep(self) -> str:
        """Sweep once and return how many submissions stand where."""
        return self._run("manage.py", "publish").strip()

    def sweeping(self) -> "subprocess.Popen[bytes]":
        """Start to sweep every second."""
        with (self._place.folder / "site.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", SWEEPS],
                cwd=ROOT,
                env=self.variables,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )

    def entries(self) -> dict[UUID, int]:
        """Return of each published run how many numbers stand on its page."""
        lines = [line.split() for line in self._run("-c", ENTRIES).splitlines()]
        found = {UUID(run_id): int(count) for run_id, count in lines}
        assert len(found) == len(lines)
        return found

    def _run(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.variables, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
