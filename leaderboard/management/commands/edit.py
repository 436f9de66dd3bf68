"""`manage.py edit SLUG`: change what is said of a submission, on the site's own machine."""

from argparse import BooleanOptionalAction
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from evaluator.exceptions import InvalidRequest
from leaderboard.editing import FIELDS, edit
from leaderboard.models import ExtraData, Submission


class Command(BaseCommand):
    """Change what is named, and leave the rest."""

    help = "Change title, authors and the like of a submission; what is not named stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("slug", help="the last part of its entry's address, which stays as it is")
        for name in ("title", "authors", "paper", "venue"):
            parser.add_argument(f"--{name}", help="'' takes it away" if name != "title" else None)
        parser.add_argument("--extra-data", choices=ExtraData.values)
        parser.add_argument("--anonymous", dest="is_anonymous", action=BooleanOptionalAction)
        parser.add_argument("--reason", default="", help="for whoever reads the trail of what staff did")

    def handle(self, *, slug: str, reason: str, **options: Any) -> None:
        """Change it, and say what is other than it was."""
        submission = Submission.objects.filter(slug=slug).first()
        if submission is None:
            raise CommandError(f"no submission is called {slug!r}; give the last part of its entry's address")
        said = {name: options[name] for name in FIELDS if options[name] is not None}
        try:
            changed = edit(submission, None, said, reason)
        except InvalidRequest as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"changed: {', '.join(changed) or 'nothing'}")
