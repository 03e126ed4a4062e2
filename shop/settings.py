"""Settings of the demo shop, read from the environment: DATABASE_URL, REDIS_URL, SECRET_KEY, DEBUG, ALLOWED_HOSTS, …"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from shop import embedded

BASE_DIR = Path(__file__).resolve().parent.parent


def _flag(name: str, *, default: bool) -> bool:
    return os.environ.get(name, str(default)).strip().lower() in {"1", "true", "yes", "on"}


def _list(name: str, *, default: str = "") -> list[str]:
    return [item.strip() for item in os.environ.get(name, default).split(",") if item.strip()]


def _service(name: str, embedded_url: str) -> str:
    """The URL of a service: from the environment, or in DEBUG that of the embedded one."""
    if url := os.environ.get(name):
        return url
    if not DEBUG:
        raise ImproperlyConfigured(
            f"{name} is not set and DEBUG is off: the embedded PostgreSQL and Redis are for the demo "
            f"only. Set {name} to your server's address, for example "
            "DATABASE_URL=postgresql://user:password@host:5432/name and "
            "REDIS_URL=redis://host:6379/0, or set DEBUG=1 on your own machine."
        )
    return embedded_url


def _broker(redis_url: str) -> str:
    """The same Redis as Celery spells it: its unix sockets have a scheme of their own."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    return f"redis+socket://{parts.path}"


DEBUG = _flag("DEBUG", default=True)
SECRET_KEY = os.environ.get("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set and DEBUG is off: set it to a long random string, for example the "
            "output of `python -c 'import secrets; print(secrets.token_urlsafe(50))'`."
        )
    SECRET_KEY = "insecure: for the demo and the tests only"
BEHIND_PROXY = _flag("BEHIND_PROXY", default=False)
ALLOWED_HOSTS = _list("ALLOWED_HOSTS", default="localhost,127.0.0.1,[::1]" if DEBUG else "")
CSRF_TRUSTED_ORIGINS = _list("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    # Before visualsearch: the shop's templates go first, and replace those of the same name.
    "shop",
    "visualsearch",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "shop.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
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

# --- services -----------------------------------------------------------------------------------

_running = None if os.environ.get("DATABASE_URL") else embedded.running()
_folder = embedded.DEFAULT_FOLDER / "data" / "run"
DATABASE_URL = _service(
    "DATABASE_URL",
    _running.database_url
    if _running
    else f"postgresql://{embedded.DATABASE}@{quote(str(_folder), safe='')}/{embedded.DATABASE}",
)
REDIS_URL = _service(
    "REDIS_URL", _running.redis_url if _running else f"unix://{_folder}/redis.sock?db=0"
)

# Connections are kept: a cold one costs more than a search.
DATABASES = {
    "default": dj_database_url.parse(DATABASE_URL, conn_max_age=600, conn_health_checks=True)
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# A cache that hangs is worse than no cache: half a second, then the request goes on without.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "shop",
        "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5},
    }
}

# Redis is only the doorbell; the record of all work is in PostgreSQL. So short timeouts, JSON and no results.
CELERY_BROKER_URL = _broker(REDIS_URL)
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "max_retries": 1,
    "interval_start": 0,
    "interval_max": 0.1,
    "visibility_timeout": 3600,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"

# --- visual search ------------------------------------------------------------------------------

# Photos and checkpoints are data; they move with the database, so the demo and the tests keep them apart.
DATA_DIR = Path(os.environ.get("DATA_DIR", BASE_DIR / "var"))
VISUALSEARCH = {
    "PRODUCT_MODEL": "shop.Product",
    "CHECKPOINT_ROOT": DATA_DIR / "checkpoints",
    "DEVICE": os.environ.get("DEVICE", "auto"),
}
if epochs := os.environ.get("TRAINING_EPOCHS"):
    VISUALSEARCH["TRAINING_EPOCHS"] = int(epochs)

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    # Requests are counted by the visitor's address, not by the proxy's.
    "NUM_PROXIES": 1 if BEHIND_PROXY else None,
}
SPECTACULAR_SETTINGS = {"TITLE": "Demo shop", "VERSION": "1.0"}

# --- files, language, security ------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = Path(os.environ.get("STATIC_ROOT", DATA_DIR / "static"))
WHITENOISE_USE_FINDERS = DEBUG
MEDIA_URL = "/media/"
MEDIA_ROOT = DATA_DIR / "media"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("ar", "العربية")]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

AUTH_PASSWORD_VALIDATORS = (
    []
    if DEBUG
    else [
        {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
        {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    ]
)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "INFO")},
    "loggers": {"django": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
