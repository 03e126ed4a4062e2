#!/usr/bin/env python
"""Django's command line; without DATABASE_URL it uses the running demo's servers or starts them for the command."""

import contextlib
import os
import sys

# These need no server, or must see the environment as it is.
WITHOUT_SERVICES = {"help", "--help", "-h", "--version", "version", "startapp", "makemessages"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    from django.core.management import execute_from_command_line

    with contextlib.ExitStack() as stack:
        debug = os.environ.get("DEBUG", "1").lower() in {"1", "true", "yes", "on"}
        command = sys.argv[1] if len(sys.argv) > 1 else "help"
        if debug and not os.environ.get("DATABASE_URL") and command not in WITHOUT_SERVICES:
            from shop.embedded import running_or_started

            services = stack.enter_context(running_or_started())
            os.environ["DATABASE_URL"] = services.database_url
            os.environ.setdefault("REDIS_URL", services.redis_url)
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
