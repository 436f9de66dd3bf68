"""`manage.py submit FILE`: hand in a checkpoint on the site's own machine, and wait for its numbers if asked."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from evaluator.architectures import ARCHITECTURES
from evaluator.exceptions import EvaluatorError
from evaluator.intake import receive
from evaluator.manifest import Manifest, read_options
from evaluator.protocol import PROTOCOLS, find_protocol
from evaluator.scratch import scratch_folder
from leaderboard import services
from leaderboard.details_form import SAID, read_details
from leaderboard.models import ExtraData, State, Submission
from leaderboard.templatetags.numbers import percent
from leaderboard.templatetags.times import foretold
from leaderboard.watching import SubmissionStatus, status_of

POLL_SECONDS = 1.0


class Command(BaseCommand):
    """Take in a checkpoint file as the site would."""

    help = "Hand in a checkpoint file; with --wait until it is published, with status 1 if it comes to nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("file", type=Path, help="safetensors file, with its manifest inside or named below")
        parser.add_argument("--protocol", required=True, help=f"one of {', '.join(PROTOCOLS)}")
        parser.add_argument("--title", help="how it is called on the board (default: the file's name)")
        parser.add_argument("--owner", metavar="USERNAME", help="whose submission it is (default: nobody's)")
        parser.add_argument("--architecture", help=f"for a file without a manifest: {', '.join(ARCHITECTURES)}")
        parser.add_argument("--options", default="{}", metavar="JSON", help="the architecture's options")
        parser.add_argument("--dataset", help="for a file without a manifest (default: the protocol's)")
        parser.add_argument("--authors", default="", help="who made it")
        parser.add_argument("--paper", default="", metavar="URL", help="the address of a paper, or of code")
        parser.add_argument("--venue", default="", help="where it was published")
        parser.add_argument(
            "--extra-data", default=ExtraData.NOT_STATED, choices=ExtraData.values,
            help="on what it was trained beside the data set's training images (default: not stated)",
        )  # fmt: skip
        parser.add_argument("--private", action="store_true", help="only its owner and staff see it, until published")
        parser.add_argument("--anonymous", action="store_true", help="only its owner and staff see authors and paper")
        parser.add_argument("--preview", action="store_true", help="estimate its robust error before all else")
        parser.add_argument("--consent", action="store_true", help="say that its makers agree to its publication")
        parser.add_argument("--wait", action="store_true", help="say how it stands until it has ended")
        parser.add_argument("--json", action="store_true", help="print at last how it stands, as JSON")

    def handle(self, *, wait: bool, **options: Any) -> None:
        """Submit, then wait."""
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
            sys.exit(130)
        if options["json"]:
            self.stdout.write(json.dumps(status.document(), indent=2))
        if status.failure is not None:
            raise CommandError(f"{status.failure.reason}\n{status.failure.hint}")
        if wait and status.state not in (State.PUBLISHED, State.MEASURED):
            raise CommandError(f"the submission is {status.state}, and has no numbers")

    def _watch(self, submission: Submission) -> SubmissionStatus:
        said = ""
        while True:
            submission.refresh_from_db()
            status = status_of(submission, insider=True)
            if (line := _line(status)) != said:
                said = line
                self.stderr.write(line)
            if status.ended:
                return status
            time.sleep(POLL_SECONDS)


def _submit(
    file: Path, protocol: str, title: str | None, owner: str | None, architecture: str | None, **options: Any
) -> Submission:
    measured_by = find_protocol(protocol)
    said = {name: options[name] for name in SAID} | {"is_anonymous": options["anonymous"]}
    details = read_details(said, consents=options["consent"])
    with scratch_folder() as folder:
        manifest = None
        if architecture is not None:
            dataset = options["dataset"] or measured_by.dataset
            manifest = Manifest(architecture, dataset, read_options(options["options"]))
        checkpoint = receive(file, folder, manifest=manifest)
        return services.submit(
            checkpoint.path,
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


def _line(status: SubmissionStatus) -> str:
    """Return in a line how a submission stands."""
    parts: list[str] = [status.state]
    if status.position:
        parts.append(f"place {status.position} in the queue")
    if status.examples:
        parts.append(f"{status.examples_done} of {status.examples} examples")
    if status.preview:
        low, value, high = (percent(x) for x in (status.preview.low, status.preview.value, status.preview.high))
        parts.append(f"preview: robust error {value} % [{low}, {high}]")
    if status.forecast:
        parts.append(f"done in {foretold(status.forecast)}")
    if status.obstacle and not status.ended:
        parts.append(status.obstacle)
    return ", ".join(parts)
