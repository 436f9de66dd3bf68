"""A content-addressed store of files over fsspec (torch-free): a folder by default, any object store by URL."""

import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fsspec.core import url_to_fs

from evaluator.exceptions import ArtifactMissing, ArtifactsUnavailable, EvaluatorError, InvalidRequest, InvalidSetting

_CHUNK_BYTES = 1 << 20
_INCOMING = ".incoming-"


class Artifacts:
    """Files under their SHA-256 in the folder or object store at `url`; what is stored is never changed.

    A file comes in under another name and gets its address in one step once it is whole: a folder renames, an object
    store copies. So whoever is killed leaves at most a file that nobody asks for, and `sweep` removes it.

    Every method raises ArtifactsUnavailable where the store does not answer, forbids it or is full.

    Raises:
        InvalidSetting: no driver is installed for such an address.
    """

    def __init__(self, url: str) -> None:
        try:
            # A cached listing would not show what other processes store and remove.
            self._files, root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InvalidSetting(
                f"no artifacts can lie under an address that begins with {url.partition('://')[0]!r:.80} ({error}); "
                "name a folder, or install what fsspec needs for it, such as s3fs for s3://"
            ) from error
        self._root = root.rstrip("/")
        self._is_folder = "file" in self._files.protocol

    def put(self, path: Path) -> str:
        """Store the file and return its SHA-256; storing it again changes nothing."""
        with path.open("rb") as file:
            return self.put_stream(chunks(file))

    def put_stream(self, parts: Iterable[bytes], *, limit_bytes: int | None = None) -> str:
        """Store what `parts` bring and return its SHA-256; nothing is kept when they fail or exceed `limit_bytes`.

        Raises:
            InvalidRequest: there are more bytes than `limit_bytes`.
        """
        incoming = f"{self._root}/{_INCOMING}{uuid.uuid4().hex}"
        digest, size = hashlib.sha256(), 0
        with self._reached():
            if self._is_folder:  # a bucket is made by whoever pays for it
                self._files.makedirs(self._root, exist_ok=True)
            file = self._files.open(incoming, "wb")
        try:
            for part in parts:
                size += len(part)
                if limit_bytes is not None and size > limit_bytes:
                    raise InvalidRequest(f"the file has more than {limit_bytes} bytes; send at most that many")
                digest.update(part)
                with self._reached():
                    file.write(part)
            with self._reached():
                self._close(file)
                self._give_name(incoming, self._place(digest.hexdigest()))
        except BaseException:
            with suppress(Exception):  # a full disk refuses what is still buffered
                file.close()
            with suppress(Exception):  # and what cannot be reached now is left for the sweep
                self._files.rm_file(incoming)
            raise
        return digest.hexdigest()

    def exists(self, sha256: str) -> bool:
        """Say whether a file of this SHA-256 is stored."""
        place = self._place(sha256)
        with self._reached():
            try:
                self._files.info(place)
            except FileNotFoundError:
                return False
            return True

    def fetch(self, sha256: str, folder: Path) -> Path:
        """Return `folder`/`sha256` with the stored bytes, copied there unless they already are.

        Raises:
            ArtifactMissing: nothing is stored under the address, or its bytes do not match it.
        """
        place, path = self._place(sha256), folder / sha256
        if path.is_file() and _sha256(path) == sha256:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        incoming = folder / f"{_INCOMING}{uuid.uuid4().hex}"
        try:
            with self._reached():
                try:
                    self._files.get_file(place, str(incoming))
                except FileNotFoundError as error:
                    raise ArtifactMissing(f"artifact {sha256} is not in {self._root}; store the file again") from error
            found = _sha256(incoming)
            if found != sha256:
                raise ArtifactMissing(f"artifact {sha256} is damaged: its bytes hash to {found}; store the file again")
            incoming.replace(path)
        finally:
            incoming.unlink(missing_ok=True)
        return path

    def delete(self, sha256: str) -> None:
        """Remove a file that nobody will ask for again; removing it twice changes nothing."""
        place = self._place(sha256)
        with self._reached(), suppress(FileNotFoundError):
            self._files.rm_file(place)

    def sweep(self, *, older_than_seconds: float = 86_400.0) -> int:
        """Remove what killed processes left half stored that long ago, and return how many files there were."""
        removed = 0
        with self._reached():
            for name in self._files.glob(f"{self._root}/{_INCOMING}*"):
                with suppress(FileNotFoundError):  # another process was faster
                    if time.time() - self._files.modified(name).timestamp() > older_than_seconds:
                        self._files.rm_file(name)
                        removed += 1
        return removed

    def _place(self, sha256: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise InvalidRequest(f"an artifact's address has 64 hexadecimal digits, got {sha256!r:.80}")
        return f"{self._root}/{sha256}"

    def _close(self, file: IO[bytes]) -> None:
        """End a file; a local one's bytes are brought to the disk, as object stores do themselves."""
        file.flush()
        if self._is_folder:
            os.fsync(file.fileno())
        file.close()

    def _give_name(self, incoming: str, place: str) -> None:
        """Let a file that is whole be seen under its address, at once and replacing what may lie there damaged."""
        if self._is_folder:
            self._files.mv(incoming, place)
        else:
            self._files.cp_file(incoming, place)
            self._files.rm_file(incoming)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Say in one sentence what keeps the store from doing its work; each driver has errors of its own."""
        try:
            yield
        except EvaluatorError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
            raise ArtifactsUnavailable(
                f"the artifacts in {self._root} cannot be used ({reason}); "
                "see that they can be reached, may be written and have room, then try again"
            ) from error


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Read a file to its end, a piece at a time."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
