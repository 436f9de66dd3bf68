"""Another site's API as a client asks it: where a token may go, uploads that can be repeated, answers in sentences.

The token goes to one host, by https, or by http where that host is this machine. No redirect is followed, and what the
site says is freed of control characters before anybody sees it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2

from evaluator.exceptions import EvaluatorError, Fault, InvalidRequest
from evaluator.messages import printable
from leaderboard.standing import Standing, standing

POLL_SECONDS = 2.0
MOST_SECONDS = 900
"""So long a request waits at most where the site asks for patience; more is for its sender to decide."""

_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""In seconds, before each repetition of a request that was not answered."""

_CHUNK_BYTES = 1 << 18
_TIMEOUT = httpx2.Timeout(30.0, read=900.0)  # the site reads and hashes the whole file before it answers
_LATER = frozenset({429, 502, 503, 504})
_ALL_SUBMISSIONS = "/api/v1/submissions/"


class Unreachable(EvaluatorError):
    """The site does not answer, or not as one of ours."""

    fault = Fault.OURS
    retry_helps = True


def address_of(text: str) -> str:
    """Return the address of a site as scheme and host.

    Raises:
        InvalidRequest: a token must not go there.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if not host or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise InvalidRequest(f"--site was {text[:80]!r}; give scheme and host alone, as in https://board.example.org")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
        raise InvalidRequest(f"--site was {text[:80]!r}; a token goes by https alone, or by http to this machine")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + (f":{port}" if port else "")


class Site:
    """A site, asked in the name of whoever made the token; `say` hears why it takes longer."""

    def __init__(self, address: str, token: str, say: Callable[[str], None]) -> None:
        self.address, self._say = address_of(address), say
        here = self.address.startswith("http:")
        self._client = httpx2.Client(
            base_url=self.address,
            headers={"Authorization": f"Bearer {token}", "User-Agent": "robust-leaderboard"},
            timeout=_TIMEOUT,
            trust_env=not here,  # a proxy would read what goes by http
        )

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def check_token(self, *, reads: bool) -> None:
        """Ask for next to nothing, so that a wrong address or token is found before a long upload.

        Raises:
            InvalidRequest: the token is not good, or not for reading although `reads` says that it will have to.
            Unreachable: the site does not answer.
        """
        response = self._ask("GET", _ALL_SUBMISSIONS, params={"limit": 1})
        if response.status_code == httpx2.codes.FORBIDDEN and not reads:
            return
        self._document(response)

    def hand_in(
        self, path: Path, wish: Mapping[str, Any], key: str, sent: Callable[[int], None]
    ) -> tuple[dict[str, Any], bool]:
        """Send a file; return how it stands and whether it is new. `sent` hears how many bytes have gone.

        Raises:
            InvalidRequest: the site refuses it, in its own sentence.
            Unreachable: the site does not answer, also not when asked again.
        """
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(path.stat().st_size),
            "Idempotency-Key": key,
        }
        params = {name: str(value).lower() if isinstance(value, bool) else value for name, value in wish.items()}
        response = self._ask(
            "POST", _ALL_SUBMISSIONS, params=params, headers=headers, content=lambda: _chunks(path, sent)
        )
        return self._document(response), response.status_code == httpx2.codes.CREATED

    def watch(self, run_id: UUID) -> Iterator[tuple[dict[str, Any], Standing]]:
        """Yield how a submission stands whenever that has changed, until it has ended."""
        etag = ""
        while True:
            response = self._ask("GET", f"{_ALL_SUBMISSIONS}{run_id}/", headers={"If-None-Match": etag} if etag else {})
            if response.status_code != httpx2.codes.NOT_MODIFIED:
                document, etag = self._document(response), response.headers.get("ETag", "")
                now = standing(document)
                yield document, now
                if now.ended:
                    return
            time.sleep(POLL_SECONDS)

    def page(self, run_id: UUID) -> str:
        """Return the address of the page that shows how a submission stands."""
        return f"{self.address}/submissions/{run_id}/"

    def _ask(
        self, method: str, path: str, *, content: Callable[[], Iterator[bytes]] | None = None, **request: Any
    ) -> httpx2.Response:
        """Return the answer to a request, which is repeated while nothing comes or the site asks to come back."""
        for pause in (*_PAUSES, None):
            try:
                response = self._client.request(method, path, content=content and content(), **request)
            except httpx2.TransportError as error:
                trouble = f"{self.address} does not answer ({printable(str(error)) or type(error).__name__})"
            else:
                if response.status_code not in _LATER:
                    return response
                trouble = _sentence(response)
                pause = pause and _asked_for(response, pause)
                if pause is None or pause > MOST_SECONDS:
                    return response
            if pause is None:
                raise Unreachable(f"{trouble}; check the address, or try again later")
            self._say(f"{trouble}; trying again in {pause:g} s")
            time.sleep(pause)
        raise AssertionError("the last pause is None")

    def _document(self, response: httpx2.Response) -> dict[str, Any]:
        if response.is_redirect:
            there = printable(response.headers.get("Location", "nowhere"))[:200]
            raise InvalidRequest(f"{self.address} leads to {there}, and a token follows nowhere; name the right --site")
        if response.is_server_error:
            raise Unreachable(_sentence(response))
        if response.is_error:
            raise InvalidRequest(_sentence(response))
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Unreachable(f"{self.address} answers, but not as a robust leaderboard does; check the address")
        return document


def _chunks(path: Path, sent: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    sent(done)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
            done += len(chunk)
            sent(done)


def _sentence(response: httpx2.Response) -> str:
    """Return in the site's own words why it refuses, as far as it has any."""
    try:
        said = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        said = None
    if not isinstance(said, str):
        return f"the site answered {response.status_code} without a sentence"
    return printable(said[:1000])


def _asked_for(response: httpx2.Response, otherwise: float) -> float:
    text = response.headers.get("Retry-After", "")
    return max(1.0, float(text)) if text.isascii() and text.isdigit() else otherwise


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
