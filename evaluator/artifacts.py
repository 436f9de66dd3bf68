"""A content-addressed store of files over fsspec (torch-free): a folder by default, any object store by URL."""

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from fsspec.core import url_to_fs

from evaluator.exceptions import ArtifactMissing, InvalidRequest

_CHUNK_BYTES = 1 << 20


class Artifacts:
    """Files under their SHA-256 in the folder or object store at `url`; what is stored is never changed."""

    def __init__(self, url: str) -> None:
        self._files, root = url_to_fs(url)
        self._root = root.rstrip("/")

    def put(self, path: Path) -> str:
        """Store the file and return its SHA-256; storing it again changes nothing."""
        with path.open("rb") as file:
            return self.put_stream(_chunks(file))

    def put_stream(self, chunks: Iterable[bytes], *, limit_bytes: int | None = None) -> str:
        """Store what `chunks` bring and return its SHA-256; nothing is kept when they fail or exceed `limit_bytes`.

        Raises:
            InvalidRequest: there are more bytes than `limit_bytes`.
        """
        self._files.makedirs(self._root, exist_ok=True)
        incoming = f"{self._root}/.incoming-{uuid.uuid4().hex}"
        digest, size = hashlib.sha256(), 0
        try:
            with self._files.open(incoming, "wb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    if limit_bytes is not None and size > limit_bytes:
                        raise InvalidRequest(f"the file has more than {limit_bytes} bytes; send at most that many")
                    digest.update(chunk)
                    file.write(chunk)
                self._sync(file)
            self._files.mv(incoming, self._place(digest.hexdigest()))
        except BaseException:
            if self._files.exists(incoming):
                self._files.rm_file(incoming)
            raise
        return digest.hexdigest()

    def exists(self, sha256: str) -> bool:
        """Say whether a file of this SHA-256 is stored."""
        return bool(self._files.exists(self._place(sha256)))

    def fetch(self, sha256: str, folder: Path) -> Path:
        """Return `folder`/`sha256` with the stored bytes, copied there unless they already are.

        Raises:
            ArtifactMissing: nothing is stored under the address, or its bytes do not match it.
        """
        place, path = self._place(sha256), folder / sha256
        if path.is_file() and _sha256(path) == sha256:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        incoming = folder / f".incoming-{uuid.uuid4().hex}"
        try:
            self._files.get_file(place, str(incoming))
            found = _sha256(incoming)
            if found != sha256:
                raise ArtifactMissing(f"artifact {sha256} is damaged: its bytes hash to {found}; store the file again")
            incoming.replace(path)
        except FileNotFoundError as error:
            raise ArtifactMissing(f"artifact {sha256} is not in {self._root}; store the file again") from error
        finally:
            incoming.unlink(missing_ok=True)
        return path

    def _place(self, sha256: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise InvalidRequest(f"an artifact's address has 64 hexadecimal digits, got {sha256!r:.80}")
        return f"{self._root}/{sha256}"

    def _sync(self, file: IO[bytes]) -> None:
        """Bring a local file's bytes to the disk before it gets its name; object stores do so themselves."""
        file.flush()
        if "file" in self._files.protocol:
            os.fsync(file.fileno())


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
