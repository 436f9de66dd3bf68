"""How a training travels to other hosts: what is needed to go on as one tar in the artifacts, its address in the store.

A tar has an address of its own, since the state holds the seconds that it took: nobody else ever asks for it, so it is
deleted once a later one has taken its place. Networks that were put away under their own addresses are never deleted.
"""

import logging
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from evaluator.artifacts import Artifacts, chunks
from evaluator.checkpoints import write_atomically
from evaluator.exceptions import ArtifactMissing, ArtifactsUnavailable, InvalidRequest
from evaluator.store import TrainingClaim, TrainingStore
from trainers.folder import Files
from trainers.state import read_cursor

SHARE = 0.1
"""No more of a training's time goes into sending it."""

log = logging.getLogger(__name__)


class Traveller:
    """A claimed training between its folder and the artifacts."""

    def __init__(self, store: TrainingStore, artifacts: Artifacts, claim: TrainingClaim, files: Files) -> None:
        self._store = store
        self._artifacts = artifacts
        self._claim = claim
        self._files = files
        self._sent = claim.saved_sha256
        self._due = time.monotonic()

    def arrive(self) -> None:
        """Bring the folder to where the store says that the training is, unless it is as far or further.

        A state that is lost is no failure: the training goes on from what the folder holds.

        Raises:
            FolderBusy: another process trains in the folder.
            ArtifactsUnavailable: the state cannot be fetched now.
        """
        sha256, epoch = self._claim.saved_sha256, self._claim.saved_epoch
        with self._files.locked():
            if sha256 is None or epoch is None or epochs_in(self._files) >= epoch:
                return
            try:
                tar = self._artifacts.fetch(sha256, self._files.folder)
            except ArtifactMissing as missing:
                log.warning("%s; the training goes on from what is in %s", missing, self._files.folder)
                return
            try:
                unpack(tar, self._files)
            finally:
                tar.unlink()
            log.info("the state after %d epochs came from the artifacts to %s", epoch, self._files.folder)

    def send_when_due(self, epoch: int) -> None:
        """Send the state after `epoch` epochs, once a lease and so seldom that no more than `SHARE` of the time goes.

        Raises:
            LostLease: the training belongs to another attempt by now.
        """
        if time.monotonic() < self._due:
            return
        began = time.monotonic()
        self.send(epoch)
        ended = time.monotonic()
        self._due = ended + max(self._claim.lease_seconds, (ended - began) / SHARE)

    def send(self, epoch: int) -> None:
        """Send the state after `epoch` epochs; artifacts that are away now only mean that it is not sent.

        Raises:
            LostLease: as for `send_when_due`.
        """
        try:
            self._sent = self._artifacts.put_stream(pack(self._files))
            replaced = self._store.keep(self._claim, epoch, self._sent)
            if replaced is not None and replaced != self._sent:
                self._artifacts.delete(replaced)
        except ArtifactsUnavailable as absence:
            log.warning("the state after %d epochs was not sent: %s", epoch, absence)

    def end(self) -> None:
        """Delete what was sent, now that the training is done."""
        try:
            if self._sent is not None:
                self._artifacts.delete(self._sent)
        except ArtifactsUnavailable as absence:
            log.warning("the state %s stays in the artifacts: %s", self._sent, absence)


def epochs_in(files: Files) -> int:
    """Return how many epochs lie behind the state in a folder: none when it is not there or not readable."""
    try:
        return read_cursor(files.state).epoch if files.state.exists() else 0
    except InvalidRequest:
        return 0


def pack(files: Files) -> Iterator[bytes]:
    """Yield the bytes of a tar with what is needed to go on, the state last."""
    for path in files.to_go_on:
        entry = tarfile.TarInfo(path.relative_to(files.folder).as_posix())
        entry.size = path.stat().st_size
        yield entry.tobuf()
        with path.open("rb") as file:
            yield from chunks(file)
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def unpack(tar: Path, files: Files) -> None:
    """Put what a tar holds in its place; whoever is killed here leaves no state, so that it is fetched again."""
    with tarfile.open(tar) as entries:
        files.state.unlink(missing_ok=True)
        for entry in entries:
            inside = tarfile.data_filter(entry, str(files.folder))  # no name leads out of the folder
            if (file := entries.extractfile(inside)) is not None:
                write_atomically(files.folder / inside.name, file.read())
