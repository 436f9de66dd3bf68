"""What the board costs a server that has thousands of entries on PostgreSQL: `python -m tests.benchmarks --only board`.

A process of its own serves requests through the whole stack of middleware, compressed as browsers ask for it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

from tests.servers import postgresql

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = 5000
BAR_MS = 60
"""The most that the median of the first page may be; the other requests are there to compare."""

REQUESTS = {
    "first page": "/",
    "sorted by flatness": "/?sort=-flatness_test",
    "searched": "/?q=trades+1",
    "narrowed": "/?architecture=digits-cnn&trust=no+flags",
    "last page": "/?page=100",
    "all columns": "/?columns=all",
    "CSV": "/board.csv",
    "JSON": "/board.json",
}


def board_milliseconds(rounds: int, entries: int = ENTRIES) -> dict[str, dict[str, float]]:
    """Return the quartiles of each request's server time, also after a change, and what of it this process worked."""
    with postgresql() as url:
        finished = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.site", str(entries), str(rounds)],
            cwd=ROOT, env=os.environ | {"DATABASE_URL": url, "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def _serve(entries: int, rounds: int) -> dict[str, dict[str, float]]:
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    from evaluator.shipped import DIGITS_LINF
    from leaderboard import throttling
    from leaderboard.models import Submission
    from tests.leaderboard import crowd

    throttling.RATES["page"] = throttling.Rate(10**9, 60)  # counted as ever, and never too many
    call_command("migrate", verbosity=0)
    crowd.publish(entries, DIGITS_LINF)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    client = Client(HTTP_ACCEPT_ENCODING="gzip", HTTP_HOST="localhost")
    times: dict[str, list[float]] = {name: [] for name in ("after a change", *REQUESTS)}
    worked: dict[str, list[float]] = {name: [] for name in times}
    for _ in range(rounds):
        Submission.objects.first().save()
        for name, address in (("after a change", "/"), *REQUESTS.items()):
            started, before = time.perf_counter(), time.process_time()
            assert client.get(address).status_code == 200
            times[name].append(1000 * (time.perf_counter() - started))
            worked[name].append(1000 * (time.process_time() - before))
    found = {}
    for name, each in times.items():
        low, middle, high = quantiles(each, n=4)
        figures = {"median_ms": middle, "lower_ms": low, "upper_ms": high, "cpu_ms": median(worked[name])}
        found[name] = {figure: round(value, 1) for figure, value in figures.items()}
    return found


if __name__ == "__main__":
    import tests.leaderboard  # noqa: F401  # sets Django up

    print(json.dumps(_serve(*map(int, sys.argv[1:]))))
