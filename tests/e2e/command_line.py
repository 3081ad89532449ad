"""The `bivouac` command in this process: its exit code and what it prints, as a person or a script would have it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

COLUMNS = 140
_SECONDS = 120.0


@dataclass(frozen=True)
class Told:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """With --json: one document on stdout, and not a word beside it."""
        assert self.out.count("\n") == 1, self
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """With --json: the error, of which stderr tells a person the same."""
        found: dict[str, str] = self.document["error"]
        return found


def bivouac(
    words: Sequence[str],
    home: Path,
    place: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    together: bool = False,
) -> Told:
    """Runs the command at `place` with `home` as home directory, where profiles lie in .bivouac.

    `together`: both outputs in `out`, in the order in which a terminal would show them.
    """
    told: list[Told] = []
    out = io.StringIO()
    err = out if together else io.StringIO()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BIVOUAC_", "FORCE_", "TTY_"))}
    settings = {**kept, "HOME": str(home), "COLUMNS": str(COLUMNS), **(environment or {})}

    def run() -> None:
        from bivouac.main import main  # here, so that no other test needs the whole command line to be sound

        try:
            main(words)
        except SystemExit as end:
            told.append(Told(int(end.code or 0), out.getvalue(), "" if together else err.getvalue()))

    with (
        patch.dict(os.environ, settings, clear=True),
        contextlib.chdir(place or home),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        # In a thread: a command has an event loop of its own, and options that it remembers.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(_SECONDS)
    assert told, f"`bivouac {' '.join(words)}` did not end: {err.getvalue()}"
    return told[0]
