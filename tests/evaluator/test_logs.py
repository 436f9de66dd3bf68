"""Logs: a line for people or an object a line, with the ids of the work at hand and without passwords."""

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.attempts import attempt
from evaluator.environment import ROOT
from evaluator.exceptions import StoreUnavailable
from evaluator.logs import FORMATTERS, JsonFormatter, TextFormatter, about, configuration, without_passwords
from evaluator.shipped import SMOKE
from evaluator.store import Claim, Role, RunStore, WorkerRegister
from tests.workers import Evaluation

IDS = {"run_id", "stage", "split", "start", "stop", "weight_sample", "attempt", "worker"}


class Lines(io.StringIO):
    def objects(self) -> list[dict]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Collect what is logged during the test as JSON."""
    stream = Lines()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = Unreachable(f"sqlite:///{tmp_path / 'runs.sqlite3'}")
    store.create_tables()
    store.create_run(uuid4(), SMOKE, "ab" * 32)
    yield store
    store.close()


class Unreachable(RunStore):
    """A store that is away whenever a lease is to be extended."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked = threading.Event()

    def heartbeat(self, claim: Claim) -> None:
        self.asked.set()
        raise StoreUnavailable("the run store is away")


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("some.library", logging.WARNING, "file.py", 1, message, None, None)


@given(st.text())
def test_any_message_is_one_line_of_json_that_says_it(message):
    line = JsonFormatter().format(record(message))
    assert len(line.splitlines()) == 1
    said = json.loads(line)
    assert said["message"] == without_passwords(message)
    assert (said["level"], said["logger"]) == ("WARNING", "some.library")
    assert said["time"].endswith("+00:00")


def test_an_exception_stays_in_its_line(lines):
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("some.library").exception("it failed")
    (said,) = lines.objects()
    assert said["message"] == "it failed"
    assert said["exception"].endswith("ValueError: two\nlines")


def test_ids_are_there_for_the_length_of_a_block_and_blocks_nest(lines):
    log = logging.getLogger("some.library")
    with about({"run_id": "one", "attempt": 1}):
        with about({"attempt": 2}):
            log.warning("inner")
        log.warning("outer")
    log.warning("after")
    assert [(said.get("run_id"), said.get("attempt")) for said in lines.objects()] == [
        ("one", 2), ("one", 1), (None, None)
    ]  # fmt: skip


def test_every_line_of_an_attempt_carries_its_ids_those_of_its_heartbeat_and_of_its_failure_too(lines, store):
    claim = store.claim("gpu 3", lease_seconds=0.04)
    with attempt(store, claim, lambda: False):
        logging.getLogger("some.library").info("measuring")
        assert store.asked.wait(60)
        raise ValueError("broken")
    logging.getLogger("some.library").info("after")
    *during, after = lines.objects()
    assert {"measuring", "the run store is away"} < {said["message"] for said in during}
    assert "ValueError: broken" in during[-1]["exception"]
    for said in during:
        assert said.keys() >= IDS
        assert (said["run_id"], said["worker"], said["attempt"]) == (str(claim.run_id), "gpu 3", 1)
        assert (said["stage"], said["split"], said["stop"]) == (claim.spec.stage, claim.spec.split, claim.spec.stop)
    assert not IDS & after.keys()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://runs:s3cr%40t@db:5432/runs", "postgresql://runs:***@db:5432/runs"),
        ("redis://:secret@queue/0 is away", "redis://:***@queue/0 is away"),
        ("postgresql://db/runs?password=secret&sslmode=require", "postgresql://db/runs?password=***&sslmode=require"),
        ("host=db password=secret user=runs", "host=db password=*** user=runs"),
        ("http://127.0.0.1:8000/ and sqlite:///var/runs", "http://127.0.0.1:8000/ and sqlite:///var/runs"),
        ("http://db:5432 asks someone@example.org", "http://db:5432 asks someone@example.org"),
    ],
)
@pytest.mark.parametrize("formatter", FORMATTERS.values())
def test_no_password_is_logged_and_nothing_else_is_lost(text, shown, formatter):
    assert without_passwords(text) == shown
    assert shown in formatter().format(record(text))
    try:
        raise ValueError(text)
    except ValueError:
        broken = record("broken")
        broken.exc_info = sys.exc_info()
        assert shown in formatter().format(broken)
        assert text == shown or text not in formatter().format(broken)


@pytest.mark.parametrize(("value", "expected"), [("", TextFormatter), ("text", TextFormatter), ("json", JsonFormatter)])
def test_the_environment_chooses_the_format(value, expected, monkeypatch):
    monkeypatch.setenv("LOG_FORMAT", value)
    assert configuration("INFO")["formatters"]["chosen"]["()"] is expected


def test_a_configured_process_logs_its_own_lines_those_of_libraries_and_warnings_as_json():
    code = """
import logging, warnings
from evaluator import logs
logging.basicConfig(format="other: %(message)s")
logging.getLogger("some.library").addHandler(logging.NullHandler())
logs.set_up(loglevel=logging.INFO, logfile=None)
logging.getLogger("some.library").info("said")
logging.getLogger("some.library").debug("not said")
warnings.warn("careful")
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"LOG_FORMAT": "json"}, capture_output=True, text=True, check=True
    )
    said, warned = (json.loads(line) for line in finished.stderr.splitlines())
    assert (said["logger"], said["message"]) == ("some.library", "said")
    assert (warned["level"], warned["logger"]) == ("WARNING", "py.warnings")
    assert "careful" in warned["message"]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # of kombu's tables
def test_a_worker_that_logs_json_says_with_each_line_of_a_shard_which_it_is(tmp_path):
    place = Evaluation(tmp_path, f"sqla+sqlite:///{tmp_path / 'broker.sqlite3'}")
    place.variables["LOG_FORMAT"] = "json"
    register = WorkerRegister(place.variables["RUN_STORE_URL"])
    run_id = place.create(SMOKE.limited(4))
    with place.worker("one"):
        place.nudge(run_id)
        place.until_complete(run_id)
        place.until(lambda: "succeeded" in place.log("one"))  # the task, as Celery says once it has ended
        (there,) = register.workers()
    register.close()
    place.close()
    said = [json.loads(line) for line in place.log("one").splitlines() if line.startswith("{")]
    shards = [one for one in said if one["logger"] == "evaluator.work"]
    assert there.role is Role.EVALUATION
    assert len(shards) == len({(one["stage"], one["split"], one["start"], one["weight_sample"]) for one in shards}) > 4
    for one in shards:
        assert one.keys() >= IDS
        assert (one["run_id"], one["worker"]) == (str(run_id), there.name)
    assert {one["logger"] for one in said if "run_id" not in one} >= {"celery.apps.worker", "celery.app.trace"}
