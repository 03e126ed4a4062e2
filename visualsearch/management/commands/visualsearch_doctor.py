"""manage.py visualsearch_doctor: examine the installation and the invariants of its tables."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch.health import doctor

REPAIRED = {
    "index rebuilt": "search index built anew",
    "triggers": "table(s) whose changes went unnoticed",
    "unknown": "product(s) without an index entry, opened",
    "orphaned": "embedding(s) of products that are gone, deleted",
    "unreadable": "product(s) whose photo was missing, opened again",
    "missing": "product(s) without an embedding, opened again",
    "vectors": "product(s) with spoilt vectors, opened again",
    "words": "product(s) that no word found",
    "old events": "event(s) past their time, deleted",
    "old searches": "searched word(s) past their time, deleted",
}
"""What `doctor.fix` counts -> what it says."""


class Command(BaseCommand):
    help = (
        "Examine settings, triggers, files, the live checkpoint, workers, and the invariants I1 to "
        "I5. Exits with 0 if nothing is wrong, 1 if something is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for machines")
        parser.add_argument(
            "--fix", action="store_true", help="open what is missing again and drop what is wrong"
        )
        parser.add_argument(
            "--no-workers", action="store_true", help="do not ask the broker which workers answer"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        repaired = doctor.fix() if options["fix"] else {}
        findings = doctor.examine(ask_workers=not options["no_workers"])
        errors = sum(finding.level == "error" for finding in findings)
        if options["json"]:
            answer = {
                "ok": not errors,
                "repaired": repaired,
                "findings": [finding.as_dict() for finding in findings],
            }
            self.stdout.write(json.dumps(answer, indent=2))
        else:
            for name, count in repaired.items():
                if count:
                    self.stdout.write(f"fixed   {count} {REPAIRED.get(name, name)}")
            if options["fix"] and not any(repaired.values()):
                self.stdout.write("fixed   nothing: there was nothing that --fix repairs")
            for finding in findings:
                number = (
                    f"{finding.count} " if finding.level == "error" and finding.count > 1 else ""
                )
                text = f"{finding.level:<8}{finding.name:<14}{number}{finding.message}"
                if finding.level == "warning":
                    text = self.style.WARNING(text)
                elif finding.level == "error":
                    text = self.style.ERROR(text)
                self.stdout.write(text)
        if errors:
            problems = f"{errors} problem{'s' if errors > 1 else ''}"
            left = f"{problems} left that --fix cannot repair: each says above what it needs."
            found = f"{problems}. `visualsearch_doctor --fix` repairs what can be repaired."
            raise CommandError(left if options["fix"] else found, returncode=1)
