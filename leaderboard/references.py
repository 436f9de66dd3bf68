"""Reference entries on this machine: hand in what was trained, evaluate it by workers of our own, wait for the numbers.

Each step asks what is there already, so whoever was killed goes on where they were: a submission is taken in once, and
the run store knows which shards are done.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evaluator.lifetime import end_with_parent
from evaluator.protocol import EvaluationProtocol
from leaderboard import services
from leaderboard.models import State, Submission
from leaderboard.supervision import STOP_SECONDS, manage
from trainers.fleet import Report

_POLL_SECONDS = 0.3
_PATIENCE = 30
"""How many times longer than it took to ask we wait before asking again: of hundreds of runs, asking takes a while."""


class WorkersEnded(Exception):
    """The workers that were to evaluate the submissions are gone; the message names their log."""


def submit(checkpoint: Path, title: str, protocol: EvaluationProtocol) -> Submission:
    """Hand in a checkpoint as a stranger's would be; one that was handed in before is found again."""
    return services.submit(checkpoint, title=title, protocol=protocol, is_reference=True)


def unfinished(submissions: Iterable[Submission]) -> list[Submission]:
    """Return those of which something is to come, as far as their rows say."""
    return [one for one in submissions if not State(one.state).ended]


def watch(submissions: Sequence[Submission], workers: "subprocess.Popen[bytes]", log: Path, report: Report) -> None:
    """Wait until every submission is published, failed or cancelled; progress is in examples, by title and protocol.

    Raises:
        WorkersEnded: the workers are gone before that.
    """
    store = services.run_store()
    while waiting := unfinished(submissions):
        began = time.monotonic()
        for submission in waiting:
            submission.refresh_from_db()
            stages = store.progress(submission.run_id)
            name = f"{submission.title} · {submission.protocol_name}"
            report(name, sum(s.examples_done for s in stages), sum(s.examples for s in stages))
        if unfinished(waiting) and workers.poll() is not None:
            raise WorkersEnded(f"the workers ended with status {workers.returncode}; their log is {log}")
        time.sleep(max(_POLL_SECONDS, _PATIENCE * (time.monotonic() - began)))


@contextmanager
def running_workers(processes: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `processes` evaluation processes and a site worker for the length of a block, on the queue of the site."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # one core a process is the fastest share of a small machine
    command = manage("worker", "--role=all", f"--concurrency={processes}")
    with log.open("ab") as stream:
        workers = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, start_new_session=True, preexec_fn=end_with_parent
        )
    try:
        yield workers
    finally:
        workers.terminate()
        try:
            workers.wait(2 * STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(workers.pid, signal.SIGKILL)
