import hashlib
import uuid

import pytest

from evaluator.artifacts import Artifacts
from evaluator.exceptions import ArtifactMissing, InvalidRequest

CONTENT = b"weights" * 500_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=["folder", "file url", "memory"])
def artifacts(request, tmp_path) -> Artifacts:
    url = {
        "folder": str(tmp_path / "artifacts"),
        "file url": f"file://{tmp_path}/artifacts",
        "memory": f"memory://{uuid.uuid4().hex}",
    }[request.param]
    return Artifacts(url)


def stored_names(artifacts: Artifacts) -> list[str]:
    return [name.rsplit("/", 1)[1] for name in artifacts._files.ls(artifacts._root, detail=False)]


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


def test_a_stream_that_breaks_or_is_too_long_leaves_nothing(artifacts):
    def breaks():
        yield CONTENT
        raise ConnectionError("the sender went away")

    with pytest.raises(ConnectionError):
        artifacts.put_stream(breaks())
    with pytest.raises(InvalidRequest, match="more than 10 bytes"):
        artifacts.put_stream([CONTENT], limit_bytes=10)
    assert stored_names(artifacts) == []
    assert artifacts.put_stream([CONTENT], limit_bytes=len(CONTENT)) == SHA256


def test_a_full_disk_at_the_last_step_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(_):
        raise OSError("no space left on device")

    artifacts = Artifacts(str(tmp_path / "artifacts"))
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        artifacts.put_stream([CONTENT])
    assert stored_names(artifacts) == []


def test_an_absent_file_is_reported_by_its_address(artifacts, tmp_path):
    with pytest.raises(ArtifactMissing, match=f"{SHA256} is not in"):
        artifacts.fetch(SHA256, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_bytes_are_never_handed_out_and_storing_again_mends_them(artifacts, tmp_path):
    artifacts.put_stream([CONTENT])
    with artifacts._files.open(artifacts._place(SHA256), "wb") as file:
        file.write(b"x" + CONTENT[1:])
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
    with pytest.raises(InvalidRequest, match="64 hexadecimal digits"):
        artifacts.fetch(address, tmp_path)
    with pytest.raises(InvalidRequest, match="64 hexadecimal digits"):
        artifacts.exists(address)
