"""The Celery application of measuring workers: `celery -A evaluator.worker worker -P prefork -c 1 -Q evaluation`.

Messages only wake it; the run store says what there is to do. `python -m evaluator.worker` does the same work without
Celery and without a broker until none waits, as batch systems want it. Neither process imports torch: the one that
measures is started by `evaluator.child`.
"""

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery import Celery
from celery.signals import setup_logging

from evaluator import logs, presence
from evaluator.artifacts import Artifacts
from evaluator.broker import EVALUATION_QUEUE, broker_settings, tell, wake
from evaluator.draining import draining
from evaluator.environment import read_environment
from evaluator.exceptions import EvaluatorError
from evaluator.store import Role, RunStore, WorkerRegister
from evaluator.work import work

app = Celery("evaluator", set_as_current=False)


def _settings() -> dict[str, Any]:
    return broker_settings(read_environment().broker_url) | {
        "task_default_queue": EVALUATION_QUEUE,
        "worker_pool_start_method": "spawn",
    }


app.add_defaults(_settings)  # read when first needed, not at import
presence.keep_present(app, Role.EVALUATION)
setup_logging.connect(logs.set_up)


@app.task(name="evaluator.evaluate")  # type: ignore[untyped-decorator]  # Celery has no types
def evaluate(run_id: str) -> None:
    """Measure until no shard waits, of this or any other run: the message only says that there is work."""
    measure_all(draining, publish)
    if draining():
        nudge(UUID(run_id))  # the rest is for whoever comes next


def measure_all(stop: Callable[[], bool], on_complete: Callable[[UUID], None]) -> int:
    """Measure by this process's settings until no shard waits or `stop` says so; return how many shards were."""
    here = read_environment()
    store, register = RunStore(here.run_store_url), WorkerRegister(here.run_store_url)
    name = presence.worker_name()
    try:
        return work(
            store,
            Artifacts(here.artifacts_url),
            worker=name,
            device=here.device,
            data_dir=here.data_dir,
            lease_seconds=here.lease_seconds,
            shard_seconds=here.shard_seconds,
            stop=stop,
            on_shard=lambda _, result: register.announce(
                name, Role.EVALUATION, device=result.device, versions=result.versions
            ),
            on_complete=on_complete,
        )
    finally:
        store.close()
        register.close()


def nudge(run_id: UUID) -> None:
    """Wake idle workers, because a run waits; kombu's OperationalError when the broker does not answer."""
    wake(app, evaluate.name, str(run_id))


def publish(run_id: UUID) -> None:
    """Tell the site that a run is complete."""
    tell(app, "site.publish", str(run_id))


def main() -> int:
    """Measure until no shard waits."""
    told_to_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_end.set())
    logs.set_up()
    here = read_environment()
    present = presence.Presence(here.run_store_url, Role.EVALUATION, here.lease_seconds)
    try:
        print(f"{measure_all(told_to_end.is_set, publish)} shards measured")
    except EvaluatorError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        present.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
