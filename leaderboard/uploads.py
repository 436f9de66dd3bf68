"""A stranger's file on its way in: counted while it streams, never under a name that somebody chose."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http import HttpRequest, UnreadablePostError

from evaluator.exceptions import (
    ArtifactsUnavailable,
    InvalidCheckpoint,
    InvalidRequest,
    MeasuringDied,
    StoreUnavailable,
)
from evaluator.intake import receive
from evaluator.manifest import Manifest
from evaluator.protocol import EvaluationProtocol
from evaluator.scratch import scratch_folder
from leaderboard import quotas, services
from leaderboard.access import owns
from leaderboard.details import Details
from leaderboard.models import Submission

_CHUNK_BYTES = 1 << 20
_NAME = "upload"
"""What every upload is called, here and in sentences about it."""


class TooLarge(InvalidRequest):
    """An upload has more bytes than are taken."""


class Taken(InvalidRequest):
    """The same file under the same protocol is somebody else's, or a key stands for another submission.

    `submission` is the other one, where everybody may know of it.
    """

    def __init__(self, sentence: str, submission: Submission | None = None) -> None:
        super().__init__(sentence)
        self.submission = None if submission is None or submission.is_private else submission


REFUSALS: dict[type[Exception], int] = {
    InvalidRequest: 400,
    InvalidCheckpoint: 400,
    Taken: 409,
    TooLarge: 413,
    quotas.QuotaExceeded: 429,
    ArtifactsUnavailable: 503,
    StoreUnavailable: 503,
    MeasuringDied: 503,
}
"""Why an upload may be refused, and the HTTP status that says so."""


@dataclass(frozen=True)
class Wish:
    """What somebody says about a file; the same `key` never stands for two submissions of one person.

    `manifest` says what network the file is for, where it does not say so itself.
    """

    title: str
    protocol: EvaluationProtocol
    is_private: bool = False
    key: str = ""
    manifest: Manifest | None = None
    details: Details | None = None
    preview: bool = False


class NoFiles(FileUploadHandler):
    """Drops the files of forms: no form here takes any, and nobody fills our disk by sending one nevertheless."""

    def new_file(self, *args: object, **kwargs: object) -> None:
        """Read past the file."""
        raise SkipFile

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Keep nothing."""

    def file_complete(self, file_size: int) -> None:
        """Have nothing."""


def hand_in(request: HttpRequest, owner: User, wish: Wish) -> tuple[Submission, bool]:
    """Submit the body of a request; return the submission, and whether it is new.

    Handing the same in again changes nothing, unless it was cancelled or failed by our fault, and no key says that this
    is the request that was sent before.

    Raises:
        InvalidCheckpoint, InvalidRequest: the file or what is said about it is refused; nothing is stored.
        QuotaExceeded: its owner handed in too much already; nothing is stored.
        ArtifactsUnavailable: there is no room for the file.
    """
    announced = _announced(request)
    if _sent_before(owner, wish) is None:
        quotas.check(owner, announced)
    with scratch_folder() as folder:
        path = folder / _NAME
        _receive(request, announced, path)
        return submit_file(path, owner, wish)


def submit_file(path: Path, owner: User, wish: Wish) -> tuple[Submission, bool]:
    """Submit a file that lies in a scratch folder of its own, as `hand_in` does the body of a request."""
    checkpoint = receive(path, path.parent, manifest=wish.manifest)
    known = Submission.objects.filter(checkpoint_sha256=checkpoint.sha256, protocol_digest=wish.protocol.digest).first()
    earlier = _sent_before(owner, wish)
    if earlier is not None and earlier != known:
        raise Taken(f"the Idempotency-Key {wish.key!r} stands for another file or protocol; send a new key")
    _refuse_others(owner, known, wish)
    if earlier is not None:
        return earlier, False
    submission = services.submit(
        checkpoint.path,
        title=wish.title,
        protocol=wish.protocol,
        owner=owner,
        is_private=wish.is_private,
        idempotency_key=wish.key,
        details=wish.details,
        preview=wish.preview,
    )
    _refuse_others(owner, submission, wish)  # somebody may have handed the same in at the same instant
    return submission, known is None


def sentence_of(error: Exception) -> str:
    """Return in words why an upload was refused; not those of a process that says too much."""
    if isinstance(error, MeasuringDied):
        return "this file could not be converted here; run manage.py pack on it and send what that writes"
    return str(error)


@contextmanager
def kept() -> Iterator[None]:
    """Turn the errors of a disk, above all of a full one, into a refusal."""
    try:
        yield
    except OSError as error:
        raise ArtifactsUnavailable(f"the file cannot be kept here ({error.strerror}); try again later") from error


def _refuse_others(owner: User, known: Submission | None, wish: Wish) -> None:
    if known is not None and not owns(owner, known):
        raise Taken(f"somebody handed in the same file under {wish.protocol.label} before; it is measured once", known)


def _sent_before(owner: User, wish: Wish) -> Submission | None:
    return Submission.objects.filter(owner=owner, idempotency_key=wish.key).first() if wish.key else None


def _announced(request: HttpRequest) -> int:
    size = int(request.headers.get("Content-Length") or 0)
    if not size:
        raise InvalidRequest("the request has no body, or does not say how long it is; send the file as its body")
    if size > settings.UPLOAD_BYTES:
        raise TooLarge(f"the file has {size} bytes; send at most {settings.UPLOAD_BYTES}")
    return size


def _receive(request: HttpRequest, announced: int, path: Path) -> None:
    """Write the body of a request, never more than it announced, to `path`."""
    size = 0
    with kept(), path.open("xb") as file:
        while size < announced and (chunk := _read(request, min(_CHUNK_BYTES, announced - size))):
            size += len(chunk)
            file.write(chunk)
    if size != announced:
        raise InvalidRequest(f"{size} of {announced} bytes arrived; send the file again")


def _read(request: HttpRequest, size: int) -> bytes:
    try:
        return request.read(size)
    except UnreadablePostError:
        return b""
