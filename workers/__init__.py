"""Where the background tasks of the demo shop run."""

from workers.celery import app

__all__ = ["app"]
