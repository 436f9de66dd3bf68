"""What happens before and after every page: machines are answered first, and pages carry their headers."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from leaderboard import health, monitoring

# Images as data: are the arrows and ticks inside the vendored stylesheet.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
_PERMISSIONS = ", ".join(
    f"{feature}=()" for feature in ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
)

Respond = Callable[[HttpRequest], HttpResponse]


def machines_first(respond: Respond) -> Respond:
    """Answer probes and scrapes before anything looks at hosts or https: they come by address, within the cluster.

    Without a token for it there is no `/metrics`.
    """
    answers: dict[str, Respond] = {"/healthz": health.healthz, "/readyz": health.readyz}
    if settings.METRICS_TOKEN:
        answers["/metrics"] = monitoring.metrics

    def answer(request: HttpRequest) -> HttpResponse:
        return answers.get(request.path_info, respond)(request)

    return answer


def content_security_policy(respond: Respond) -> Respond:
    """Let a page load from this site alone, run no inline script or style, and use no device.

    Whoever signs in by GitHub is sent there by a form.
    """
    policy = f"{_POLICY} https://github.com" if settings.SOCIALACCOUNT_PROVIDERS else _POLICY

    def with_policy(request: HttpRequest) -> HttpResponse:
        response = respond(request)
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
        return response

    return with_policy
