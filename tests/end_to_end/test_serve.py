"""The whole house on one machine: `make serve`, a checkpoint in, a published page out, Ctrl-C, nothing left."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 180

SUBMIT = """
import django
django.setup()
from pathlib import Path
from evaluator.shipped import SMOKE
from leaderboard import services
print(services.submit(Path("fixtures/tiny.safetensors"), title="Tiny", protocol=SMOKE).get_absolute_url())
"""


def test_a_submitted_checkpoint_is_measured_and_published_by_serve_alone(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    host = free_host()
    environment = f"BIN={Path(sys.executable).parent}"
    command = ["make", "--old-file=.venv/.complete", environment, "serve", f"ADDRESS={host}"]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        ) as served,
    ):
        try:
            wait_for(f"http://{host}/protocols/", "smoke v1")
            submitted = subprocess.run(
                [sys.executable, "-c", SUBMIT], cwd=ROOT, env=variables, check=True, capture_output=True, text=True
            )
            page = wait_for(f"http://{host}{submitted.stdout.strip()}", "What broke the examples")
        finally:
            os.killpg(served.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
            status = served.wait(DEADLINE_SECONDS)
    assert "RErr test" in page
    stylesheet = re.search(r'href="(/static/vendor/[^"]+)"', page)
    assert stylesheet
    said = (tmp_path / "log").read_text()
    assert status == -signal.SIGINT, said  # make’s own end
    assert "Error" not in said
    left = subprocess.run(["pgrep", "-f", host], capture_output=True, text=True)
    assert left.stdout == ""


def test_serve_killed_leaves_no_process_behind(tmp_path: Path, variables: dict[str, str]) -> None:
    host = free_host()
    command = [sys.executable, str(ROOT / "manage.py"), "serve", host]
    with (tmp_path / "log").open("w") as log:
        served = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log)
    try:
        wait_for(f"http://{host}/protocols/", "smoke v1")
    finally:
        served.kill()
        served.wait()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while left := of_this_serve(variables):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def of_this_serve(variables: dict[str, str]) -> list[str]:
    """Return the processes that have the test's own database in their environment."""
    mine = variables["QUEUE_URL"].encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mine in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended meanwhile
            continue
    return found


def free_host() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def wait_for(url: str, text: str) -> str:
    """Return the page once it holds `text`."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    page = "no answer"
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                page = response.read().decode()
        except OSError as error:
            page = str(error)
        if text in page:
            return page
        time.sleep(0.3)
    raise AssertionError(f"{url} never held {text!r}: {page[-2000:]}")
