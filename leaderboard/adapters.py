"""What allauth asks the site: whether people may sign up, and how secrets of second factors are kept."""

from base64 import urlsafe_b64encode
from hashlib import sha256

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet
from django.conf import settings
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):
    """Accounts as allauth has them, unless the operator makes them."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Say whether people may make accounts themselves."""
        return settings.SIGN_UP


class MFAAdapter(DefaultMFAAdapter):
    """Second factors whose secrets whoever reads only the database cannot use: the key comes from SECRET_KEY."""

    def encrypt(self, text: str) -> str:
        """Return what is stored of a secret."""
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the secret of what is stored."""
        return _cipher().decrypt(encrypted_text.encode()).decode()


def _cipher() -> Fernet:
    return Fernet(urlsafe_b64encode(sha256(b"second factors:" + settings.SECRET_KEY.encode()).digest()))
