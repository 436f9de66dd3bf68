"""Trainings that are begun on one host and ended on another, which share the two stores and no folder."""

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from evaluator.artifacts import Artifacts
from evaluator.store import RunStore, ShardState, TrainingStore
from tests.object_stores import new_bucket
from tests.trainers.recipes_for_tests import tiny
from tests.trainers.test_work import only, order
from tests.workers import ROOT
from trainers.folder import Files, training_folder
from trainers.loop import train
from trainers.travelling import pack, unpack
from trainers.work import work

AT = tiny("at", epochs="6", snapshot_every="2")

HOST_A = """
import os, signal, sys
from pathlib import Path
from evaluator.artifacts import Artifacts
from evaluator.store import TrainingStore
from trainers.work import work

store = TrainingStore(sys.argv[1])

def dies_after_three_epochs():
    if store.trainings()[0].epochs_done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return False

work(
    store,
    Artifacts(sys.argv[2]),
    worker="A",
    folder=Path(sys.argv[3]),
    device="cpu",
    lease_seconds=3600,  # nothing is sent after the first epoch
    stop=dies_after_three_epochs,
)
"""


@pytest.fixture
def run_store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.sqlite3'}"


@pytest.fixture
def store(run_store_url: str) -> Iterator[TrainingStore]:
    runs, store = RunStore(run_store_url), TrainingStore(run_store_url)
    runs.create_tables()
    yield store
    store.close()
    runs.close()


@pytest.fixture(params=["folder", "s3"])
def artifacts_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return new_bucket(request.getfixturevalue("object_store"))
    return str(tmp_path / "artifacts")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return the files of a training that never left its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(AT, seed=0, folder=folder)
    return Files(folder)


def files_on(host: Path) -> Files:
    return Files(training_folder(host, AT, 0))


def networks(files: Files) -> list[bytes]:
    return [path.read_bytes() for path in (files.final, files.best, files.snapshot(2), files.snapshot(4))]


def stored(artifacts: Artifacts) -> set[str]:
    return {name.rpartition("/")[2] for name in artifacts._files.find(artifacts._root)}


def stopped_after(store: TrainingStore, epochs: int, artifacts: Artifacts, host: Path) -> None:
    """Train on a host whose worker is told to end after so many epochs."""
    told = work(
        store, artifacts, worker=host.name, folder=host, device="cpu", stop=lambda: only(store).epochs_done == epochs
    )
    assert told == 0
    assert (only(store).state, only(store).epochs_done) == (ShardState.QUEUED, epochs)


def test_a_training_killed_on_one_host_is_ended_on_another_with_the_networks_of_an_undisturbed_one(
    store, run_store_url, artifacts_url, undisturbed, tmp_path
):
    store.queue([order(AT)])
    a, b = tmp_path / "a", tmp_path / "b"
    command = [sys.executable, "-c", HOST_A, run_store_url, artifacts_url, str(a)]
    assert subprocess.run(command, cwd=ROOT, env=os.environ, check=False).returncode == -signal.SIGKILL
    assert (only(store).state, only(store).epochs_done, only(store).saved_epoch) == (ShardState.RUNNING, 3, 1)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE trainings SET lease_expires = 0"))
    artifacts = Artifacts(artifacts_url)
    assert work(store, artifacts, worker="B", folder=b, device="cpu") == 1
    assert networks(files_on(b)) == networks(undisturbed)
    lines = [files_on(host).log.read_text().splitlines() for host in (a, b)]
    assert (lines[1][0], len(lines[1])) == (lines[0][0], AT.epochs)  # with its seconds: the epoch was not done again
    assert stored(artifacts) == {only(store).final_sha256, only(store).best_sha256}  # and nothing else stays
    assert {path.name for path in files_on(b).folder.iterdir()} == {
        "lock", "log.jsonl", "state.safetensors", "final.safetensors", "best.safetensors", "snapshots",
    }  # fmt: skip  # one set


def test_what_is_handed_back_goes_to_and_fro_between_hosts_and_no_epoch_is_done_twice(
    store, artifacts_url, undisturbed, tmp_path
):
    store.queue([order(AT)])
    artifacts, a, b = Artifacts(artifacts_url), tmp_path / "a", tmp_path / "b"
    for epochs, host in ((2, a), (4, b), (5, a)):
        stopped_after(store, epochs, artifacts, host)
        assert only(store).saved_epoch == epochs
        assert stored(artifacts) == {only(store).saved_sha256}  # the states before are gone
    assert work(store, artifacts, worker="b", folder=b, device="cpu") == 1
    assert networks(files_on(b)) == networks(undisturbed)
    assert files_on(b).log.read_text().startswith(files_on(a).log.read_text())


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path / "artifacts"))


def test_a_folder_that_is_further_than_the_saved_state_is_gone_on_from(store, artifacts, tmp_path):
    store.queue([order(AT)])
    stopped_after(store, 4, artifacts, tmp_path / "a")
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE trainings SET saved_epoch = 1"))
    artifacts.delete(only(store).saved_sha256)
    begun = files_on(tmp_path / "a").log.read_text()
    assert work(store, artifacts, worker="a", folder=tmp_path / "a", device="cpu") == 1
    assert files_on(tmp_path / "a").log.read_text().startswith(begun)


def test_a_saved_state_that_is_lost_or_damaged_costs_its_epochs_and_nothing_else(
    store, artifacts, undisturbed, tmp_path
):
    store.queue([order(AT)])
    stopped_after(store, 4, artifacts, tmp_path / "a")
    (tmp_path / "artifacts" / only(store).saved_sha256).write_bytes(b"damaged")
    assert work(store, artifacts, worker="b", folder=tmp_path / "b", device="cpu") == 1
    assert networks(files_on(tmp_path / "b")) == networks(undisturbed)


def test_an_unreadable_state_in_the_folder_is_replaced_by_the_saved_one(store, artifacts, undisturbed, tmp_path):
    store.queue([order(AT)])
    stopped_after(store, 4, artifacts, tmp_path / "a")
    begun = files_on(tmp_path / "a").log.read_text()
    os.truncate(files_on(tmp_path / "a").state, 1000)
    assert work(store, artifacts, worker="a", folder=tmp_path / "a", device="cpu") == 1
    assert files_on(tmp_path / "a").log.read_text().startswith(begun)
    assert networks(files_on(tmp_path / "a")) == networks(undisturbed)


def test_without_artifacts_a_training_goes_on_to_its_end_and_waits_there_for_them(
    store, artifacts, undisturbed, tmp_path
):
    store.queue([order(AT)])
    (tmp_path / "artifacts").write_text("a file, where a folder should be")
    host = tmp_path / "a"
    assert work(store, artifacts, worker="a", folder=host, device="cpu") == 0
    waiting = only(store)
    assert (waiting.state, waiting.epochs_done, waiting.error) == (ShardState.QUEUED, AT.epochs, None)
    assert waiting.saved_epoch is None
    (tmp_path / "artifacts").unlink()
    assert work(store, artifacts, worker="a", folder=host, device="cpu") == 1
    assert networks(files_on(host)) == networks(undisturbed)
    assert stored(artifacts) == {only(store).final_sha256, only(store).best_sha256}


def test_a_training_that_is_cancelled_ends_after_the_epoch_and_goes_on_when_it_is_queued_again(
    store, artifacts, undisturbed, tmp_path
):
    store.queue([order(AT)])
    host = tmp_path / "a"

    def cancel_after_two() -> bool:
        if only(store).epochs_done == 2:
            assert store.cancel(AT.digest, 0)
        return False

    assert work(store, artifacts, worker="a", folder=host, device="cpu", stop=cancel_after_two) == 0
    assert (only(store).state, len(files_on(host).log.read_text().splitlines())) == (ShardState.FAILED, 3)
    store.queue([order(AT)])
    assert work(store, artifacts, worker="a", folder=host, device="cpu") == 1
    assert networks(files_on(host)) == networks(undisturbed)


def test_what_is_packed_is_unpacked_as_it_was_over_what_lies_there(tmp_path, undisturbed):
    tar, files = tmp_path / "tar", Files(tmp_path / "there")
    tar.write_bytes(b"".join(pack(undisturbed)))
    files.folder.mkdir()
    files.state.write_text("an older state")
    unpack(tar, files)
    packed = [path.relative_to(undisturbed.folder) for path in undisturbed.to_go_on]
    assert [path.relative_to(files.folder) for path in files.to_go_on] == packed
    assert [(files.folder / name).read_bytes() for name in packed] == [
        (undisturbed.folder / name).read_bytes() for name in packed
    ]


def test_who_is_killed_while_unpacking_leaves_no_state_so_that_it_is_fetched_again(tmp_path, undisturbed):
    tar, files = tmp_path / "tar", Files(tmp_path / "there")
    whole = b"".join(pack(undisturbed))
    tar.write_bytes(whole[: len(whole) - undisturbed.state.stat().st_size // 2])
    files.folder.mkdir()
    files.state.write_text("an older state")
    with pytest.raises(tarfile.ReadError):
        unpack(tar, files)
    assert not files.state.exists()
