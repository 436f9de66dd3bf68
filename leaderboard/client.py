"""`python -m leaderboard.client FILE --site ADDRESS`: hand a checkpoint to another site, and wait for its numbers.

It needs no site here: no settings, no database. `manage.py submit --site` is the same.

Exit codes: 0 handed in, with --wait published · 1 a failure of the site's · 2 the request, the token or the checkpoint
is wrong · 130 interrupted.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from evaluator.checkpoint_file import Checkpoint
from evaluator.exceptions import EvaluatorError, Fault, InvalidRequest
from evaluator.intake import receive
from evaluator.messages import printable
from evaluator.scratch import scratch_folder
from evaluator.shipped import PROTOCOLS, find_protocol
from leaderboard.progress import transfer
from leaderboard.remote import Site
from leaderboard.standing import Standing, standing
from leaderboard.submit_options import declare, manifest

TOKEN = "LEADERBOARD_TOKEN"  # noqa: S105  # the name of a variable
"""The environment variable that holds a token where no file does."""

INTERRUPTED = 130


def parser(program: str = "python -m leaderboard.client") -> argparse.ArgumentParser:
    """Return the argument parser, which `manage.py submit --site` shares."""
    arguments = argparse.ArgumentParser(prog=program, description="Hand a checkpoint to another site by its API.")
    declare(arguments)
    arguments.add_argument("--site", required=True, metavar="ADDRESS", help="such as https://board.example.org")
    arguments.add_argument(
        "--token-file", type=Path, metavar="PATH", help=f"holds a personal token to submit (default: ${TOKEN})"
    )
    arguments.add_argument(
        "--idempotency-key", metavar="KEY", help="a request that is sent again with it never starts a new run"
    )
    return arguments


def main(argv: Sequence[str] | None = None, program: str = "python -m leaderboard.client") -> int:
    """Hand in what the arguments name and say how it stands; return the exit code."""
    arguments = parser(program).parse_args(argv)
    messages = Console(stderr=True)

    def say(sentence: str) -> None:
        messages.print(escape(printable(sentence)), highlight=False, soft_wrap=True)

    try:
        document, now = _handed_in(arguments, messages, say)
    except EvaluatorError as error:
        messages.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return _status(error.fault)
    except _Interrupted as interruption:
        say(str(interruption))
        return INTERRUPTED
    if arguments.json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    if complaint := now.complaint():
        say(complaint)
        return _status(now.failure.fault if now.failure else Fault.OURS)
    return 0


class _Interrupted(Exception):
    """Ctrl-C was pressed; the message says what became of the submission."""


def _handed_in(
    arguments: argparse.Namespace, messages: Console, say: Callable[[str], None]
) -> tuple[dict[str, Any], Standing]:
    try:
        with scratch_folder() as folder, Site(arguments.site, _token(arguments.token_file), say) as site:
            wish = _wish(arguments)
            checkpoint = _verified(arguments, folder)
            site.check_token(reads=arguments.wait)
            document, is_new = _sent(site, checkpoint, wish, arguments.idempotency_key, messages)
            return _followed(site, document, is_new, arguments.wait, say)
    except KeyboardInterrupt:
        raise _Interrupted(
            f"interrupted before {arguments.site} said that it has the file; the same command sends it again"
        ) from None


def _sent(
    site: Site, checkpoint: Checkpoint, wish: dict[str, Any], key: str | None, messages: Console
) -> tuple[dict[str, Any], bool]:
    size = checkpoint.path.stat().st_size
    with transfer(messages) as progress:
        bar = progress.add_task("Sending", total=size)
        return site.hand_in(
            checkpoint.path, wish, key or secrets.token_urlsafe(), lambda done: progress.update(bar, completed=done)
        )


def _followed(
    site: Site, document: dict[str, Any], is_new: bool, wait: bool, say: Callable[[str], None]
) -> tuple[dict[str, Any], Standing]:
    now = standing(document)
    page = site.page(now.run_id)
    say(page if is_new else f"{page} (handed in before)")
    last, said = (document, now), now.line()
    say(said)
    try:
        for last in site.watch(now.run_id) if wait else ():
            if (line := last[1].line()) != said:
                said = line
                say(line)
    except KeyboardInterrupt:
        raise _Interrupted(f"it is measured all the same; {page} shows how it stands") from None
    return last


def _verified(arguments: argparse.Namespace, folder: Path) -> Checkpoint:
    """Return the file as the site keeps it, checked as there: a state dict is converted here."""
    known = arguments.protocol in PROTOCOLS  # another site may have others
    if arguments.architecture is not None and not (known or arguments.dataset):
        raise InvalidRequest(f"{arguments.protocol!r} is not known here; say by --dataset what the file is for")
    named = manifest(arguments.protocol, arguments.architecture, arguments.options, arguments.dataset)
    checkpoint = receive(arguments.file, folder, manifest=named)
    if known and (dataset := find_protocol(arguments.protocol).dataset) != checkpoint.manifest.dataset:
        raise InvalidRequest(
            f"{arguments.file.name} was made for {checkpoint.manifest.dataset}, but {arguments.protocol} measures on "
            f"{dataset}; choose a protocol of the same data set"
        )
    return checkpoint


def _wish(arguments: argparse.Namespace) -> dict[str, Any]:
    if not arguments.consent:
        raise InvalidRequest(
            "no consent was given; say --consent if you may hand in the file, and agree that the site keeps it to "
            "measure it and, unless it is private, publishes its numbers and what you say of it"
        )
    names = ("protocol", "consent", "private", "authors", "paper", "venue", "extra_data", "anonymous", "preview")
    return {"title": arguments.title or arguments.file.stem, **{name: getattr(arguments, name) for name in names}}


def _token(path: Path | None) -> str:
    try:
        text = os.environ.get(TOKEN, "") if path is None else path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read ({type(error).__name__}); name a file with a token") from None
    token = text.strip()
    if not token:
        raise InvalidRequest(f"no token was given; make one at the site under /account/tokens/, and name its file by "
                             f"--token-file or put it into {TOKEN}")  # fmt: skip
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest(f"{path or TOKEN} holds no token; put in it the one line that the site showed")
    return token


def _status(fault: Fault) -> int:
    return 2 if fault is Fault.SUBMITTER else 1


if __name__ == "__main__":
    sys.exit(main())
