"""The site's processes: no torch in them, no secrets in the evaluation worker, and all stop together."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from evaluator.broker import SITE_QUEUE
from leaderboard.celery import app
from leaderboard.management.commands.worker import APPLICATIONS, become, celery_command

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def test_the_site_starts_and_answers_where_torch_cannot_be_imported() -> None:
    code = """
        import sys

        class NoTorch:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "torchvision"):
                    raise AssertionError(f"the site imports {name}")

        sys.meta_path.insert(0, NoTorch())
        import django
        django.setup()
        from django.test import Client
        import leaderboard.wsgi, leaderboard.tasks
        from leaderboard.management.commands import import_reference, publish, serve, worker
        assert Client().get("/about/", headers={"host": "localhost"}).status_code == 200
        assert Client().get("/api/v1/openapi.json", headers={"host": "localhost"}).status_code == 200
    """
    subprocess.run(python(code), cwd=ROOT, check=True, timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize("role", APPLICATIONS)
def test_a_worker_of_another_room_runs_without_django_and_without_the_sites_secrets(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setenv("DATABASE_URL", "postgresql://board:secret@db/site")
    monkeypatch.setenv("SECRET_KEY", "secret")
    monkeypatch.setenv("METRICS_TOKEN", "secret")
    monkeypatch.setenv("QUEUE_URL", "redis://broker")
    monkeypatch.setattr(os, "execvpe", lambda *arguments: calls.append(arguments))
    become(celery_command(role, concurrency=2))
    ((program, command, environment),) = calls
    assert program == sys.executable
    assert {f"--app={APPLICATIONS[role]}", "--concurrency=2", f"--queues={role}"} <= set(command)
    assert environment["QUEUE_URL"] == "redis://broker"
    assert not {"DATABASE_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE"} & environment.keys()
    assert "secret" not in environment.values()


def test_workers_of_other_rooms_import_neither_django_nor_the_site() -> None:
    code = """
        import sys
        import evaluator.worker, evaluator.work, trainers.worker, trainers.work
        # kombu looks for one class of django.utils where Django is installed; nothing is set up by it
        assert not {"django.apps", "django.conf", "django.db", "leaderboard"} & sys.modules.keys()
    """
    variables = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    subprocess.run(python(code), cwd=ROOT, env=variables, check=True, timeout=DEADLINE_SECONDS)


def test_the_sites_tasks_wait_in_its_own_queue_and_the_sweep_is_scheduled() -> None:
    app.loader.import_default_modules()
    names = {name for name in app.tasks if name.startswith("site.")}
    assert names == {"site.publish", "site.sweep", "site.take_in"}
    assert {app.amqp.router.route({}, name)["queue"].name for name in names} == {SITE_QUEUE}
    assert [entry["task"] for entry in app.conf.beat_schedule.values()] == ["site.sweep"]


def test_the_sites_worker_does_not_pass_for_one_that_measures_or_trains() -> None:
    code = """
        import threading
        import django
        django.setup()
        import leaderboard.tasks
        from celery.signals import worker_process_init
        worker_process_init.send(sender=None)  # as its pool does, which is none
        assert "presence" not in {thread.name for thread in threading.enumerate()}
    """
    subprocess.run(python(code), cwd=ROOT, check=True, timeout=DEADLINE_SECONDS)


def supervisor(tmp_path: Path, commands: str) -> list[str]:
    return python(f"""
        import sys
        import django
        django.setup()
        from leaderboard.supervision import supervise
        sleep = [sys.executable, "-c", "import os, sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)"]
        folder = {str(tmp_path)!r}
        sys.exit(supervise({commands}))
    """)


def wait_for(*files: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_supervisor_stops_all_it_started(tmp_path: Path, number: signal.Signals) -> None:
    commands = '[[*sleep, f"{folder}/a"], [*sleep, f"{folder}/b"]]'
    with subprocess.Popen(supervisor(tmp_path, commands), cwd=ROOT) as process:
        wait_for(tmp_path / "a", tmp_path / "b")
        process.send_signal(number)
        assert process.wait(DEADLINE_SECONDS) == 0
    children = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True)
    assert children.stdout == b""


def test_when_one_process_ends_the_others_end_and_its_status_is_told(tmp_path: Path) -> None:
    commands = '[[*sleep, f"{folder}/a"], [sys.executable, "-c", "raise SystemExit(3)"]]'
    process = subprocess.run(supervisor(tmp_path, commands), cwd=ROOT, timeout=DEADLINE_SECONDS)
    assert process.returncode == 3
