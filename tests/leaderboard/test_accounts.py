"""People sign up, sign in with a second factor, and find pages in the site's own style, errors included."""

import re
import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from leaderboard import environment

pytestmark = pytest.mark.django_db

PASSWORD = "a long pass phrase"


@pytest.fixture(autouse=True)
def quick(settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow by design


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada", password=PASSWORD)


def sign_in(client: Client, password: str = PASSWORD, **where: str):
    return client.post("/account/login/", {"login": "ada", "password": password, **where})


def test_whoever_signs_up_is_signed_in(client: Client) -> None:
    form = {"username": "ada", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/account/signup/", form).status_code == 302
    assert ">ada</a>" in client.get("/about/").content.decode()


@pytest.mark.parametrize("password", ["short", "password12", "1234567890123", "ada-lovelace"])
def test_a_password_that_can_be_guessed_is_refused(client: Client, password: str) -> None:
    form = {"username": "ada-lovelace", "password1": password, "password2": password}
    assert client.post("/account/signup/", form).status_code == 200
    assert not User.objects.exists()


def test_nobody_signs_up_where_the_operator_makes_the_accounts(client: Client, settings) -> None:
    settings.SIGN_UP = False
    form = {"username": "ada", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/account/signup/", form).status_code == 200
    assert not User.objects.exists()


def test_a_page_that_needs_an_account_is_shown_after_signing_in(client: Client, user: User) -> None:
    refused = client.get("/account/mfa/")
    assert refused["Location"] == "/account/login/?next=/account/mfa/"
    assert sign_in(client, next="/account/mfa/")["Location"] == "/account/mfa/"
    assert client.get("/account/mfa/").status_code == 200


def test_nobody_is_sent_elsewhere_after_signing_in(client: Client, user: User) -> None:
    assert sign_in(client, next="https://elsewhere.example/")["Location"] == "/"


def test_a_second_factor_is_kept_unreadable_and_asked_for(client: Client, user: User) -> None:
    sign_in(client)
    page = client.get("/account/mfa/totp/activate/", follow=True)
    assert page.redirect_chain[0][0].startswith("/account/reauthenticate/"), "a session that was stolen adds no factor"
    client.post("/account/reauthenticate/", {"password": PASSWORD})
    page = client.get("/account/mfa/totp/activate/").content.decode()
    secret = re.search(r'id="authenticator_secret"[^>]+value="(\w+)"', page)[1]
    code = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
    assert client.post("/account/mfa/totp/activate/", {"code": code}).status_code == 302
    assert secret not in str(Authenticator.objects.get(type="totp").data)

    first, second = Client(), Client()
    for another in (first, second):
        assert sign_in(another)["Location"] == "/account/mfa/authenticate/"
        assert "ada" not in another.get("/about/").content.decode()
    assert first.post("/account/mfa/authenticate/", {"code": code}).status_code == 302
    assert second.post("/account/mfa/authenticate/", {"code": code}).status_code == 200, "a code is good once"
    recovery = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]
    assert second.post("/account/mfa/authenticate/", {"code": recovery}).status_code == 302
    assert ">ada</a>" in second.get("/about/").content.decode()


def test_guessing_a_password_is_stopped(client: Client, user: User) -> None:
    for _ in range(5):
        sign_in(client, "wrong")
    assert "Too many failed login attempts" in sign_in(client).content.decode()


@pytest.mark.parametrize(
    "address", ["login", "signup", "password/reset", "email", "password", "mfa", "logout", "mfa/totp/activate"]
)
def test_account_pages_have_the_style_of_the_site_and_no_scripts(client: Client, user: User, address: str) -> None:
    client.force_login(user)
    if address in ("login", "signup", "password/reset"):
        client.logout()
    page = client.get(f"/account/{address}/", follow=True).content.decode()
    assert '<a class="site-name"' in page
    assert not re.findall(r"<script|<style|\sstyle=|\son\w+=", page)


def test_sessions_and_forms_are_hard_to_steal(client: Client, user: User) -> None:
    sign_in(client)
    assert client.cookies["session"]["httponly"]
    assert client.cookies["session"]["samesite"] == "Lax"
    strict = Client(enforce_csrf_checks=True)
    refused = strict.post("/account/login/", {"login": "ada", "password": PASSWORD})
    assert refused.status_code == 403
    assert "Send it once more" in refused.content.decode()


def test_errors_have_the_style_of_the_site_and_tell_nothing(client: Client, user: User, monkeypatch) -> None:
    client.raise_request_exception = False
    client.force_login(user)

    def broken(name: str) -> None:
        raise RuntimeError("the inside of the site")

    answers = {404: client.get("/no/"), 400: client.get("/", headers={"Host": "elsewhere.example"})}
    monkeypatch.setattr("leaderboard.selectors.reported", broken)
    answers[500] = client.get("/reported/")
    for status, answer in answers.items():
        page = answer.content.decode()
        assert answer.status_code == status
        assert '<a class="site-name"' in page
        assert "inside" not in page
        assert "default-src 'self'" in answer["Content-Security-Policy"]


def test_a_mail_server_is_taken_apart_and_another_scheme_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONE", "smtp://ada:p%40ss@mail.example")
    found = {"host": "mail.example", "port": 587, "user": "ada", "password": "p@ss", "ssl": False}
    assert environment.mail_server("NONE") == found
    monkeypatch.setenv("NONE", "http://mail.example")
    with pytest.raises(ImproperlyConfigured, match="it must be smtp://USER"):
        environment.mail_server("NONE")
    monkeypatch.delenv("NONE")
    assert environment.mail_server("NONE") == {}
