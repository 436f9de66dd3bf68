"""Typed readers of environment variables; a wrong value stops the start with a sentence."""

import os
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TOKEN_LENGTH = 20
_MAIL_PORTS = {"smtp": 587, "smtps": 465}
_SWITCH = {"on": True, "off": False}


def text(name: str, default: str) -> str:
    """Return the variable, or `default` where it is unset or empty."""
    return os.environ.get(name) or default


def switch(name: str, *, default: bool) -> bool:
    """Return whether the variable is `on`; anything but `on` and `off` is refused."""
    value = os.environ.get(name)
    if not value:
        return default
    if value not in _SWITCH:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be on or off")
    return _SWITCH[value]


def words(name: str, default: str) -> list[str]:
    """Return the comma-separated words of the variable."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def database(name: str, default: str, *, root: Path) -> dict[str, Any]:
    """Return Django's settings of a `sqlite:///file` (relative to `root`) or `postgresql://…` address."""
    url = urlsplit(text(name, default))
    if url.scheme == "sqlite" and not url.netloc and len(url.path) > 1:
        path = root / unquote(url.path[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            },
        }
    if url.scheme == "postgresql" and len(url.path) > 1:
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(url.path[1:]),
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": unquote(url.hostname or ""),
            "PORT": str(url.port or ""),
            "OPTIONS": dict(parse_qsl(url.query)),
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
        }
    raise ImproperlyConfigured(
        f"{name} has the scheme {url.scheme!r} and the path {url.path!r}; "
        "it must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME"
    )


def mail_server(name: str) -> dict[str, Any]:
    """Return host, port, user, password and whether TLS comes first, of an address; empty where there is none."""
    value = os.environ.get(name)
    if not value:
        return {}
    url = urlsplit(value)
    if url.scheme not in _MAIL_PORTS or not url.hostname:
        raise ImproperlyConfigured(
            f"{name} has the scheme {url.scheme!r}; it must be smtp://USER:PASSWORD@HOST:PORT, which begins TLS after "
            "connecting, or smtps://…, which begins with it"
        )
    return {
        "host": unquote(url.hostname),
        "port": url.port or _MAIL_PORTS[url.scheme],
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "ssl": url.scheme == "smtps",
    }


def number(name: str, default: int) -> int:
    """Return the whole number of the variable, which is at least 1."""
    value = text(name, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a whole number from 1 on")
    return int(value)


def token(name: str) -> str:
    """Return the token of the variable, empty where there is none; one that can be guessed is refused."""
    value = os.environ.get(name, "")
    if value and (len(value) < _TOKEN_LENGTH or not re.fullmatch(r"[!-~]+", value)):
        raise ImproperlyConfigured(
            f"{name} has {len(value)} characters; it needs {_TOKEN_LENGTH} or more, in ASCII and without a space: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return value


def secret(name: str, file: Path, *, embedded: bool) -> str:
    """Return the secret of the variable; an embedded site makes one once and keeps it in `file`."""
    value = os.environ.get(name)
    if value:
        return value
    if not embedded:
        raise ImproperlyConfigured(
            f"{name} is not set; a site on a database server needs its own: "
            "python -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text()
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_urlsafe(50))
    return file.read_text()
