"""The register of workers, pauses and draining, on SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import text

from evaluator.shipped import SMOKE
from evaluator.store import Role, RunStore, TrainingStore, WorkerRegister

SHA = "ab" * 32


@pytest.fixture
def register(store: RunStore, url: str) -> Iterator[WorkerRegister]:
    register = WorkerRegister(url)
    yield register
    register.close()


def test_a_worker_is_there_with_device_versions_and_what_it_holds_until_it_leaves(store, register):
    register.announce("gpu 3", Role.EVALUATION)
    register.announce("gpu 3", Role.EVALUATION, device="NVIDIA H200", versions={"torch": "2.13.0"})
    register.announce("gpu 3", Role.EVALUATION)  # a heartbeat changes nothing else
    store.create_run(uuid4(), SMOKE, SHA)
    held = store.claim("gpu 3")
    (worker,) = register.workers()
    assert (worker.name, worker.role, worker.device) == ("gpu 3", Role.EVALUATION, "NVIDIA H200")
    assert worker.versions == {"torch": "2.13.0"}
    assert worker.busy_with == f"{held.spec} of run {held.run_id}"
    assert worker.started_at <= worker.seen_at
    assert 0 <= worker.silent_seconds < 60
    register.leave("gpu 3")
    assert register.workers() == ()


def test_a_worker_that_nobody_has_seen_for_a_day_is_forgotten(store, register):
    register.announce("gone", Role.EVALUATION)
    register.announce("there", Role.EVALUATION)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE workers SET seen_at = seen_at - 86401 WHERE name = 'gone'"))
    assert [worker.name for worker in register.workers()] == ["there"]
    register.forget()
    register.announce("gone", Role.EVALUATION)
    again, there = register.workers()
    assert again.started_at > there.started_at


def test_a_paused_role_gets_no_work_until_it_is_resumed(store, register, url):
    store.create_run(uuid4(), SMOKE, SHA)
    register.pause(Role.EVALUATION, "a new driver is being installed")
    register.pause(Role.EVALUATION, "a new driver is being tested")
    assert [(pause.role, pause.reason) for pause in register.pauses()] == [
        (Role.EVALUATION, "a new driver is being tested")
    ]
    assert store.claim("worker") is None
    assert not store.waits("worker")
    assert register.resume(Role.EVALUATION)
    assert not register.resume(Role.EVALUATION)
    assert store.claim("worker") is not None


def test_a_draining_worker_keeps_what_it_holds_and_gets_nothing_more(store, register):
    for name in ("draining", "other"):
        register.announce(name, Role.EVALUATION)
    store.create_run(uuid4(), SMOKE, SHA)
    held = store.claim("draining")
    assert register.drain("draining")
    assert not register.drain("unknown")
    store.heartbeat(held)
    assert store.claim("draining") is None
    assert not store.waits("draining")
    assert store.claim("other") is not None
    store.release(held)
    assert register.drain("draining", drain=False)
    assert store.claim("draining") is not None


def test_a_pause_of_training_leaves_evaluation_alone(store, register, url):
    store.create_run(uuid4(), SMOKE, SHA)
    register.pause(Role.TRAINING, "the disk is full")
    trainings = TrainingStore(url)
    assert trainings.claim("worker") is None
    trainings.close()
    assert store.claim("worker") is not None
