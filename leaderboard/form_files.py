"""The one file of a form: streamed to a scratch folder under our own name, and bounded on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http import HttpRequest

from evaluator.exceptions import ArtifactsUnavailable
from leaderboard.uploads import TooLarge, kept

FIELD = "file"


class FormFile(FileUploadHandler):
    """Keeps the first file of the field `FIELD`; once it is refused, reads past the rest, so that the form arrives.

    `refusal` says why, also of whoever may send none at all.
    """

    file: BinaryIO
    """Django closes it where a request breaks off."""

    def __init__(self, request: HttpRequest, folder: Path, refusal: Exception | None = None) -> None:
        super().__init__(request)
        self.path = folder / "upload"
        self.refusal = refusal
        self._size = 0

    def new_file(self, field_name: str, *args: object, **kwargs: object) -> None:
        """Begin to keep the file, or read past any other."""
        super().new_file(field_name, *args, **kwargs)
        if field_name != FIELD or self.path.exists():
            raise SkipFile
        self.file = self.path.open("xb")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write some of the file, unless it is refused."""
        self._size += len(raw_data)
        if self.refusal is None and self._size > settings.UPLOAD_BYTES:
            self.refusal = TooLarge(f"the file has more than {settings.UPLOAD_BYTES} bytes; send at most as many")
        if self.refusal is None:
            self._try(self.file.write, raw_data)

    def file_complete(self, file_size: int) -> UploadedFile:
        """Return what a form's field looks at: that there is a file, and whether it is empty."""
        self._try(self.file.close)
        return UploadedFile(self.file, self.path.name, size=file_size)

    def take(self) -> Path:
        """Return where the file lies.

        Raises:
            TooLarge, QuotaExceeded, ArtifactsUnavailable: it was refused on its way.
        """
        if self.refusal is not None:
            raise self.refusal
        return self.path

    def _try(self, step: Callable[..., object], *arguments: object) -> None:
        try:
            with kept():
                step(*arguments)
        except ArtifactsUnavailable as refusal:
            self.refusal = refusal
