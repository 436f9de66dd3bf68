"""Files under their SHA-256, in folders and on a real S3-compatible server alike."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import s3fs

from evaluator.artifacts import Artifacts
from evaluator.exceptions import ArtifactMissing, ArtifactsUnavailable, Fault, InvalidRequest, InvalidSetting
from tests.object_stores import new_bucket
from tests.workers import ROOT

CONTENT = b"weights" * 500_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=["folder", "file url", "memory", "s3"])
def url(request, tmp_path) -> str:
    if request.param == "s3":
        return new_bucket(request.getfixturevalue("object_store"))
    return {
        "folder": str(tmp_path / "artifacts"),
        "file url": f"file://{tmp_path}/artifacts",
        "memory": f"memory://{uuid.uuid4().hex}",
    }[request.param]


@pytest.fixture
def artifacts(url) -> Artifacts:
    return Artifacts(url)


@pytest.fixture
def in_folder(tmp_path) -> Artifacts:
    return Artifacts(str(tmp_path / "artifacts"))


def stored_names(artifacts: Artifacts) -> list[str]:
    return [name.rsplit("/", 1)[1] for name in artifacts._files.ls(artifacts._root, detail=False)]


def leave_behind(artifacts: Artifacts, name: str) -> None:
    with artifacts._files.open(f"{artifacts._root}/{name}", "wb") as file:
        file.write(b"half")


def test_what_is_put_is_fetched_under_its_sha256(artifacts, tmp_path):
    (tmp_path / "net").write_bytes(CONTENT)
    assert not artifacts.exists(SHA256)
    assert artifacts.put(tmp_path / "net") == SHA256
    assert artifacts.exists(SHA256)
    fetched = artifacts.fetch(SHA256, tmp_path / "cache")
    assert fetched.read_bytes() == CONTENT
    assert list((tmp_path / "cache").iterdir()) == [fetched]


def test_putting_twice_stores_once(artifacts):
    assert artifacts.put_stream([CONTENT]) == artifacts.put_stream([CONTENT[:10], b"", CONTENT[10:]]) == SHA256
    assert stored_names(artifacts) == [SHA256]


def test_who_puts_the_same_at_once_stores_it_once(artifacts, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: artifacts.put_stream([CONTENT]), range(8))) == {SHA256}
    assert stored_names(artifacts) == [SHA256]
    assert artifacts.fetch(SHA256, tmp_path).read_bytes() == CONTENT


def test_a_stream_that_breaks_or_is_too_long_leaves_nothing(artifacts):
    def breaks():
        yield CONTENT
        raise ConnectionError("the sender went away")

    stored = artifacts.put_stream([b"something else"])  # an object store forgets folders that hold nothing
    with pytest.raises(ConnectionError):
        artifacts.put_stream(breaks())
    with pytest.raises(InvalidRequest, match="more than 10 bytes"):
        artifacts.put_stream([CONTENT], limit_bytes=10)
    assert stored_names(artifacts) == [stored]
    assert artifacts.put_stream([CONTENT], limit_bytes=len(CONTENT)) == SHA256


def test_nothing_is_seen_under_its_address_before_it_is_whole(artifacts):
    seen = []

    def parts():
        yield CONTENT[:10]
        seen.append(artifacts.exists(SHA256))
        yield CONTENT[10:]

    assert artifacts.put_stream(parts()) == SHA256
    assert seen == [False]


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Let the operating system refuse to make files longer, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_refuses_a_file_in_a_sentence_and_keeps_no_part_of_it(in_folder, tmp_path):
    with (
        files_no_longer_than(1_000_000),
        pytest.raises(ArtifactsUnavailable, match=r"File too large.*have room") as full,
    ):
        in_folder.put_stream([CONTENT])
    assert (full.value.fault, full.value.retry_helps) == (Fault.OPERATOR, True)
    assert stored_names(in_folder) == []
    assert in_folder.put_stream([CONTENT]) == SHA256
    with files_no_longer_than(1_000_000), pytest.raises(ArtifactsUnavailable, match="File too large"):
        in_folder.fetch(SHA256, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert in_folder.fetch(SHA256, tmp_path / "cache").read_bytes() == CONTENT


def test_a_disk_that_is_full_only_at_the_last_step_keeps_nothing(in_folder, monkeypatch):
    def full_disk(_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ArtifactsUnavailable, match="no space left"):
        in_folder.put_stream([CONTENT])
    assert stored_names(in_folder) == []


def test_who_is_killed_while_storing_leaves_only_what_a_sweep_removes(url, artifacts):
    if url.startswith("memory"):
        pytest.skip("no two processes share a memory")
    code = (
        "import sys; from evaluator.artifacts import Artifacts, chunks; "
        "Artifacts(sys.argv[1]).put_stream(part[:100_000] for part in chunks(sys.stdin.buffer))"
    )
    stored = artifacts.put_stream([b"something else"])
    with subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT, stdin=subprocess.PIPE) as doomed:
        doomed.stdin.write(CONTENT)  # more than a pipe holds: some of it is read and on its way
        doomed.stdin.flush()
        doomed.kill()
    assert doomed.wait() == -signal.SIGKILL
    assert not artifacts.exists(SHA256)
    left = set(stored_names(artifacts)) - {stored}
    assert len(left) == (0 if url.startswith("s3") else 1)  # what is sent to S3 is seen once it is ended
    assert all(name.startswith(".incoming-") for name in left)
    assert artifacts.sweep(older_than_seconds=-60) == len(left)
    assert stored_names(artifacts) == [stored]


def test_a_sweep_removes_what_was_left_half_stored_long_ago_and_nothing_else(artifacts):
    artifacts.put_stream([CONTENT])
    leave_behind(artifacts, ".incoming-of-a-killed-process")
    assert artifacts.sweep() == 0  # it may still be growing
    assert artifacts.sweep(older_than_seconds=-60) == 1
    assert artifacts.sweep(older_than_seconds=-60) == 0
    assert stored_names(artifacts) == [SHA256]


def test_where_nothing_was_ever_stored_nothing_is_swept(artifacts):
    assert artifacts.sweep(older_than_seconds=-60) == 0


def test_what_was_deleted_is_gone_and_may_be_deleted_and_stored_again(artifacts, tmp_path):
    artifacts.put_stream([CONTENT])
    artifacts.delete(SHA256)
    assert not artifacts.exists(SHA256)
    artifacts.delete(SHA256)
    artifacts.put_stream([CONTENT])
    assert artifacts.fetch(SHA256, tmp_path).read_bytes() == CONTENT


def test_an_absent_file_is_reported_by_its_address(artifacts, tmp_path):
    with pytest.raises(ArtifactMissing, match=f"{SHA256} is not in"):
        artifacts.fetch(SHA256, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("damaged", [b"x" + CONTENT[1:], CONTENT[:-1], b""], ids=["a byte", "cut", "empty"])
def test_damaged_bytes_are_never_handed_out_and_storing_again_mends_them(artifacts, tmp_path, damaged):
    artifacts.put_stream([CONTENT])
    with artifacts._files.open(artifacts._place(SHA256), "wb") as file:
        file.write(damaged)
    with pytest.raises(ArtifactMissing, match="damaged"):
        artifacts.fetch(SHA256, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    artifacts.put_stream([CONTENT])
    assert artifacts.fetch(SHA256, tmp_path / "cache").read_bytes() == CONTENT


def test_a_damaged_copy_in_the_folder_is_fetched_anew(artifacts, tmp_path):
    artifacts.put_stream([CONTENT])
    path = artifacts.fetch(SHA256, tmp_path / "cache")
    path.write_bytes(b"damaged")
    assert artifacts.fetch(SHA256, tmp_path / "cache").read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["", "../../secret", "A" * 64, SHA256 + "\n", SHA256[:-1]])
def test_an_address_that_is_no_sha256_is_refused(artifacts, tmp_path, address):
    for ask in (lambda: artifacts.fetch(address, tmp_path), lambda: artifacts.exists(address)):
        with pytest.raises(InvalidRequest, match="64 hexadecimal digits"):
            ask()
    with pytest.raises(InvalidRequest, match="64 hexadecimal digits"):
        artifacts.delete(address)


def test_a_server_that_is_not_there_is_the_operators_trouble_and_worth_a_retry(
    request, object_store, tmp_path, monkeypatch
):
    url = new_bucket(object_store)
    request.addfinalizer(s3fs.S3FileSystem.clear_instance_cache)  # fsspec would go on to ask whom it asked first
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # where nobody listens
    artifacts = Artifacts(url)
    for call in (
        lambda: artifacts.put_stream([CONTENT]),
        lambda: artifacts.exists(SHA256),
        lambda: artifacts.fetch(SHA256, tmp_path),
        lambda: artifacts.delete(SHA256),
        artifacts.sweep,
    ):
        with pytest.raises(
            ArtifactsUnavailable, match=r"artifacts cannot be used .*127\.0\.0\.1:9.* try again"
        ) as away:
            call()
        assert (away.value.fault, away.value.retry_helps) == (Fault.OPERATOR, True)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store["AWS_ENDPOINT_URL"])
    s3fs.S3FileSystem.clear_instance_cache()
    assert Artifacts(url).put_stream([CONTENT]) == SHA256


def test_a_bucket_that_is_not_there_is_not_made(object_store):
    with pytest.raises(ArtifactsUnavailable, match="bucket does not exist"):
        Artifacts(f"s3://{uuid.uuid4().hex}/artifacts").put_stream([CONTENT])


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_is_the_operators_trouble(in_folder, tmp_path):
    (tmp_path / "artifacts").mkdir(0o500)
    with pytest.raises(ArtifactsUnavailable, match="PermissionError"):
        in_folder.put_stream([CONTENT])


def test_an_address_for_which_there_is_no_driver_is_refused_at_the_door():
    with pytest.raises(InvalidSetting, match=r"begins with 'carrier-pigeon'.*name a folder"):
        Artifacts("carrier-pigeon://roof/7")
