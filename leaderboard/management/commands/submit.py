"""`manage.py submit FILE`: hand in a checkpoint on the site's own machine, and wait for its numbers if asked.

With `--site` the file goes to another site, by `leaderboard.client`.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from evaluator.exceptions import EvaluatorError
from evaluator.intake import receive
from evaluator.scratch import scratch_folder
from evaluator.shipped import find_protocol
from leaderboard import client, services
from leaderboard.details_form import SAID, read_details
from leaderboard.models import Submission
from leaderboard.standing import standing
from leaderboard.submit_options import declare, manifest
from leaderboard.watching import SubmissionStatus, status_of

POLL_SECONDS = 1.0


class Command(BaseCommand):
    """Take in a checkpoint file as the site would, or hand it to another site."""

    help = "Hand in a checkpoint file; with --wait until it is published, with status 1 if it comes to nothing."

    def run_from_argv(self, argv: list[str]) -> None:
        """Leave everything to the client where another site is named."""
        if any(argument.partition("=")[0] == "--site" for argument in argv):
            sys.exit(client.main(argv[2:], program="manage.py submit"))
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        declare(parser)
        parser.add_argument("--owner", metavar="USERNAME", help="whose submission it is (default: nobody's)")
        parser.add_argument(
            "--site", metavar="ADDRESS", help="another site to hand it to; with --help, what else that takes"
        )

    def handle(self, *, wait: bool, **options: Any) -> None:
        """Submit, then wait."""
        if options["site"]:
            raise CommandError("nothing was handed in; write --site in full")
        try:
            submission = _submit(**options)
        except EvaluatorError as error:
            raise CommandError(str(error)) from error
        address = reverse("submission", args=[submission.run_id])
        self.stderr.write(f"{submission.title!r} under {submission.protocol_name}: {address}")
        try:
            status = self._watch(submission) if wait else status_of(submission, insider=True)
        except KeyboardInterrupt:
            self.stderr.write(f"it is measured all the same; {address} shows how it stands")
            sys.exit(client.INTERRUPTED)
        if options["json"]:
            self.stdout.write(json.dumps(status.document(), indent=2))
        if complaint := standing(status.document()).complaint():
            raise CommandError(complaint)

    def _watch(self, submission: Submission) -> SubmissionStatus:
        said = ""
        while True:
            submission.refresh_from_db()
            status = status_of(submission, insider=True)
            if (line := standing(status.document()).line()) != said:
                said = line
                self.stderr.write(line)
            if status.ended:
                return status
            time.sleep(POLL_SECONDS)


def _submit(file: Path, protocol: str, title: str | None, owner: str | None, **options: Any) -> Submission:
    measured_by = find_protocol(protocol)
    said = {name: options[name] for name in SAID} | {"is_anonymous": options["anonymous"]}
    details = read_details(said, consents=options["consent"])
    named = manifest(protocol, options["architecture"], options["options"], options["dataset"])
    with scratch_folder() as folder:
        return services.submit(
            receive(file, folder, manifest=named).path,
            title=title or file.stem,
            protocol=measured_by,
            owner=_user(owner),
            is_private=options["private"],
            details=details,
            preview=options["preview"],
        )


def _user(name: str | None) -> User | None:
    if name is None:
        return None
    try:
        return User.objects.get(username=name)
    except User.DoesNotExist as absence:
        raise CommandError(f"no user is called {name!r}; leave --owner out, or sign up first") from absence
