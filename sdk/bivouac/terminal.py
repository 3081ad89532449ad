"""What the command line prints: for people tables and bars, with --json one document on stdout and no more."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from bivouac.errors import BivouacError, Invalid, Refused
from bivouac.render import terminal_safe

_WIDTH_OF_A_FILE = 140
_CAPITALS = re.compile(r"(?<!^)(?=[A-Z])")


class Terminal:
    """Answers go to stdout, notes, bars and questions to stderr."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out = self._console(stderr=False)
        self._notes = self._console(stderr=True)

    @property
    def moves(self) -> bool:
        """Whether there is anybody to watch a bar."""
        return not self.as_json and self._notes.is_terminal

    def answer(self, shown: RenderableType, document: Any) -> None:
        """The one answer of a command."""
        if self.as_json:
            self.document(document)
        else:
            self._out.print(shown)

    def document(self, document: Any) -> None:
        """One line of JSON; messages look as they do on the bus."""
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """A line of somebody else's, as it comes."""
        sys.stdout.write(terminal_safe(text) + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        if not self.as_json:
            self._notes.print(terminal_safe(text))

    def failed(self, error: BivouacError) -> None:
        """One sentence, and the nearest thing that would work."""
        self._notes.print(terminal_safe(str(error)))
        refused = error if isinstance(error, Refused) else None
        if refused is not None and refused.nearest:
            self._notes.print(terminal_safe(f"Nearest: {refused.nearest}"))
        if self.as_json:
            self.document(failure(error))

    def confirm(self, question: str) -> bool:
        """y or n; where nobody can be asked, --yes must have been said."""
        if self.as_json or not sys.stdin.isatty():
            raise Invalid("Nobody can be asked here: add --yes to book without a question.")
        self._notes.print(f"{question} [y/n] ", end="")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextlib.contextmanager
    def bar(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """A bar for bytes: called with (done, whole)."""
        if not self.moves:
            yield lambda done, whole: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self._notes, transient=True) as progress:
            task = progress.add_task(label, total=None)
            yield lambda done, whole: progress.update(task, completed=done, total=whole)

    @contextlib.contextmanager
    def waiting(self, label: str) -> Iterator[Callable[[str], None]]:
        """A sign of life while one waits; call it with each piece of news."""
        if not self.moves:
            yield self.note
            return
        with self._notes.status(label):
            yield self.note

    def _console(self, *, stderr: bool) -> Console:
        console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
        if not console.is_terminal:
            console.width = max(console.width, _WIDTH_OF_A_FILE)
        return console


def failure(error: BivouacError) -> dict[str, Any]:
    """What a failed command prints with --json."""
    if isinstance(error, Refused):
        return {"error": {"reason": error.reason.value, "detail": str(error), "nearest": error.nearest}}
    reason = "usage" if isinstance(error, Invalid) else _CAPITALS.sub("_", type(error).__name__).lower()
    return {"error": {"reason": reason, "detail": str(error), "nearest": ""}}
