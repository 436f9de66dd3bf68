"""All settings of the site; what differs between places comes from environment variables, each named here once."""

from pathlib import Path

from evaluator import logs
from leaderboard import environment

BASE_DIR = Path(__file__).resolve().parent.parent

DATABASES = {"default": environment.database("DATABASE_URL", "sqlite:///var/site.sqlite3", root=BASE_DIR)}
_embedded = DATABASES["default"]["ENGINE"].endswith("sqlite3")
_https = environment.switch("HTTPS", default=False)

SECRET_KEY = environment.secret("SECRET_KEY", BASE_DIR / "var" / "secret_key", embedded=_embedded)
DEBUG = environment.switch("DEBUG", default=False)
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
METRICS_TOKEN = environment.token("METRICS_TOKEN")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.staticfiles",
    "leaderboard",
]
MIDDLEWARE = [
    "leaderboard.middleware.machines_first",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "leaderboard.middleware.content_security_policy",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "leaderboard.urls"
WSGI_APPLICATION = "leaderboard.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "/static/"
# Where images collect the static files, under names with their hashes; elsewhere they are served from where they lie.
STATIC_ROOT = environment.text("STATIC_ROOT", "") or None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
if STATIC_ROOT:
    STORAGES = {"staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}

SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
if environment.switch("BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en"
USE_I18N = False

_loggers = ("leaderboard", "django", "django.server", "gunicorn.access", "gunicorn.error")
LOGGING = logs.configuration("WARNING", dict.fromkeys(_loggers, "INFO"))
