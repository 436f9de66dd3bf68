"""What happens before and after every page: machines are answered first, and pages carry their headers."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse

from leaderboard import health, monitoring
from leaderboard.access import NotSignedIn
from leaderboard.throttling import TooManyRequests, too_many

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


def refusals(respond: Respond) -> Respond:
    """Send whoever has to sign in for a page to where one does, and whoever asks too often away for a while."""

    def answer(request: HttpRequest) -> HttpResponse:
        return respond(request)

    def process_exception(request: HttpRequest, error: Exception) -> HttpResponse | None:
        match error:
            case NotSignedIn():
                return redirect_to_login(request.get_full_path())
            case TooManyRequests():
                return too_many(request, error.seconds)
        return None

    answer.process_exception = process_exception  # type: ignore[attr-defined]
    return answer
