"""The demo shop's settings with the two views that search is measured against, and no throttles."""

from shop.settings import *  # noqa: F403
from shop.settings import VISUALSEARCH

ROOT_URLCONF = "benchmarks.floor_urls"
DEBUG = False
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False
ALLOWED_HOSTS = ["127.0.0.1"]
VISUALSEARCH = VISUALSEARCH | {
    "THROTTLE_RATES": {"search": "1000000/min", "similar": "1000000/min"}
}
