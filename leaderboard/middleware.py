"""The headers every page carries."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

# Images as data: are the arrows and ticks inside the vendored stylesheet.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

Respond = Callable[[HttpRequest], HttpResponse]


def content_security_policy(respond: Respond) -> Respond:
    """Let a page load from this site alone, and run no inline script or style."""

    def with_policy(request: HttpRequest) -> HttpResponse:
        response = respond(request)
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        return response

    return with_policy
