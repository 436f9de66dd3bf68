"""All settings of the site; what differs between places comes from environment variables, each named here once."""

from pathlib import Path

from evaluator import logs
from leaderboard import environment

BASE_DIR = Path(__file__).resolve().parent.parent

DATABASES = {"default": environment.database("DATABASE_URL", "sqlite:///var/site.sqlite3", root=BASE_DIR)}
_embedded = DATABASES["default"]["ENGINE"].endswith("sqlite3")
_https = environment.switch("HTTPS", default=False)
_behind_proxy = environment.switch("BEHIND_PROXY", default=False)
_mail = environment.mail_server("EMAIL_URL")

SECRET_KEY = environment.secret("SECRET_KEY", BASE_DIR / "var" / "secret_key", embedded=_embedded)
DEBUG = environment.switch("DEBUG", default=False)
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
METRICS_TOKEN = environment.token("METRICS_TOKEN")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "leaderboard",  # before allauth, whose templates it has in its own style
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.github",
    "ninja",  # for the files of the API's page
]
MIDDLEWARE = [
    "leaderboard.middleware.machines_first",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "leaderboard.middleware.content_security_policy",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "leaderboard.middleware.refusals",
]
ROOT_URLCONF = "leaderboard.urls"
WSGI_APPLICATION = "leaderboard.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# What limits guesses, and knows which codes were used, has to hold over all web processes.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# What strangers may send, and how much of it.
FILE_UPLOAD_HANDLERS = ["leaderboard.uploads.NoFiles"]
UPLOAD_BYTES = environment.number("UPLOAD_BYTES", 2 * 1024**3)
QUOTA_PENDING = environment.number("QUOTA_PENDING", 5)
QUOTA_DAILY = environment.number("QUOTA_DAILY", 20)
QUOTA_BYTES = environment.number("QUOTA_BYTES", 20 * 1024**3)

AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "account_login", "board", "board"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
_verified = environment.switch("EMAIL_VERIFICATION", default=False)
ACCOUNT_EMAIL_VERIFICATION = "mandatory" if _verified else "optional"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*" if _verified else "email", "password1*", "password2*"]
ACCOUNT_ADAPTER, MFA_ADAPTER = "leaderboard.adapters.AccountAdapter", "leaderboard.adapters.MFAAdapter"
SIGN_UP = environment.switch("SIGN_UP", default=True)
MFA_ALLOW_UNVERIFIED_EMAIL = not _verified
MFA_TOTP_TOLERANCE = 1  # telephones' clocks are half a minute off at times
MFA_TOTP_ISSUER = "Robust leaderboard"
ALLAUTH_TRUSTED_PROXY_COUNT = int(_behind_proxy)
_github = {"client_id": environment.text("GITHUB_CLIENT_ID", ""), "secret": environment.text("GITHUB_SECRET", "")}
SOCIALACCOUNT_PROVIDERS = {"github": {"APPS": [_github]}} if _github["client_id"] else {}

STATIC_URL = "/static/"
# Where images collect the static files, under names with their hashes; elsewhere they are served from where they lie.
STATIC_ROOT = environment.text("STATIC_ROOT", "") or None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
if STATIC_ROOT:
    STORAGES = {"staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}

SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = ("__Host-session", "__Host-csrf") if _https else ("session", "csrf")
CSRF_COOKIE_HTTPONLY = True  # forms carry it themselves
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
if _behind_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Without a server for them, mails are files that the operator can read.
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if _mail else 'filebased'}.EmailBackend"
EMAIL_FILE_PATH = BASE_DIR / "var" / "mail"
EMAIL_HOST, EMAIL_PORT, EMAIL_USE_SSL = _mail.get("host", ""), _mail.get("port", 0), _mail.get("ssl", False)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.get("user", ""), _mail.get("password", "")
EMAIL_USE_TLS = bool(_mail) and not EMAIL_USE_SSL
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = environment.text("EMAIL_FROM", "leaderboard@localhost")

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en"
USE_I18N = False

_loggers = ("leaderboard", "django", "django.server", "gunicorn.access", "gunicorn.error")
LOGGING = logs.configuration("WARNING", dict.fromkeys(_loggers, "INFO"))
