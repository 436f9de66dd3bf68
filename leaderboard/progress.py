"""Long work on a terminal: a bar a piece, or one for all of it."""

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_SECONDS_BETWEEN_LINES = 60


def bars(console: Console, unit: str, *, width: int) -> Progress:
    """Return a display of bars that count in `unit`, with `width` characters for what each is about."""
    return Progress(
        TextColumn(f"{{task.description:<{width}}}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
        TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn(), console=console,
    )  # fmt: skip  # one column of the display an argument


def transfer(console: Console) -> Progress:
    """Return a display of how much of a file has gone, and how fast; it is for a terminal, and leaves nothing there."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip  # one column of the display an argument


class Each:
    """One bar a title, made when it is first heard of; where there is no terminal, a line at its end."""

    def __init__(self, progress: Progress, verb: str) -> None:
        self._progress, self._verb = progress, verb
        self._bars: dict[str, Any] = {}

    def __call__(self, title: str, done: int, total: int) -> None:
        """Hear how far something is."""
        if title not in self._bars:
            self._bars[title] = self._progress.add_task(f"{self._verb} {title}", total=total)
        ended = self._progress.tasks[self._bars[title]].finished
        self._progress.update(self._bars[title], completed=done)
        if not self._progress.console.is_terminal and done == total and not ended:
            self._progress.console.print(f"{self._verb} {title}: {done} of {total}", highlight=False, markup=False)


class Total:
    """One bar for everything that is heard of; where there is no terminal, a line a minute."""

    def __init__(self, progress: Progress, verb: str) -> None:
        self._progress, self._verb = progress, verb
        self._bar = progress.add_task(verb, total=None)
        self._seen: dict[str, tuple[int, int]] = {}
        self._said = time.monotonic()

    def __call__(self, title: str, done: int, total: int) -> None:
        """Hear how far something is."""
        self._seen[title] = done, total
        every_done, every_total = (sum(counts) for counts in zip(*self._seen.values(), strict=True))
        self._progress.update(self._bar, completed=every_done, total=every_total)
        if not self._progress.console.is_terminal and time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._progress.console.print(f"{self._verb}: {every_done} of {every_total}")
            self._said = time.monotonic()
