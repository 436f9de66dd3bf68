"""`manage.py rerun PROTOCOL`: what stands under older versions of a protocol is measured under the newest."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from evaluator.exceptions import EvaluatorError
from evaluator.shipped import find_protocol
from leaderboard import reruns


class Command(BaseCommand):
    """Queue published entries anew; the same call goes on where it was interrupted."""

    help = "Measure the entries of older versions of a protocol under its newest; the old ones stay."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("protocol", help="its name, for example digits-linf")
        parser.add_argument("--from-version", type=int, metavar="N", help="only what stands under this version")
        parser.add_argument("--reason", default="", help="why; it stands in the trail of what staff did")
        parser.add_argument("--dry-run", action="store_true", help="say what would be queued, and queue nothing")

    def handle(self, *, protocol: str, from_version: int | None, reason: str, dry_run: bool, **options: Any) -> None:
        """Queue each entry in a transaction of its own."""
        try:
            newest, found = find_protocol(protocol), list(reruns.outdated(protocol, from_version))
            queued = 0
            for submission in found:
                if dry_run or reruns.rerun(submission, None, reason.strip()):
                    queued += 1
                    self.stdout.write(f"v{submission.protocol_version}  {submission.title}")
        except EvaluatorError as error:
            raise CommandError(str(error)) from error
        verb = "would be queued" if dry_run else "queued"
        self.stdout.write(f"{queued} {verb} under {newest.label}")
