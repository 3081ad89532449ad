"""What the node has heard and has yet to say, on disk, so that a bus that is away costs no result and no repeat.

A command's id and what it brings about are written in one transaction; the id is what makes a redelivered
command a repeat, and the outgoing message stays until the stream has acknowledged it.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from wire.message import Message, deduplication_id, encode

_SEEN_KEPT = 10_000


class Spool:
    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS seen (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL);
            CREATE TABLE IF NOT EXISTS outgoing (
                number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, subject TEXT NOT NULL, body BLOB NOT NULL
            );
            """
        )

    def first_time(self, command_id: str) -> bool:
        """Whether this command is new; from now on it is not."""
        with self._database:
            new = self._database.execute("INSERT OR IGNORE INTO seen (id) VALUES (?)", (command_id,)).rowcount == 1
            if new:
                self._database.execute(
                    "DELETE FROM seen WHERE number <= (SELECT max(number) FROM seen) - ?", (_SEEN_KEPT,)
                )
            return new

    def put(self, message: Message) -> None:
        """Keep a message until it is published; one that is kept already stays as it is."""
        with self._database:
            self._database.execute(
                "INSERT OR IGNORE INTO outgoing (id, subject, body) VALUES (?, ?, ?)",
                (message.id, message.subject(), encode(message)),
            )

    def waiting(self, limit: int = 64) -> Sequence[tuple[int, str, bytes, str]]:
        """Oldest first: (number, subject, body, deduplication id)."""
        rows = self._database.execute(
            "SELECT number, id, subject, body FROM outgoing ORDER BY number LIMIT ?", (limit,)
        ).fetchall()
        return [(number, subject, body, deduplication_id(id_, body)) for number, id_, subject, body in rows]

    def published(self, number: int) -> None:
        with self._database:
            self._database.execute("DELETE FROM outgoing WHERE number = ?", (number,))

    def close(self) -> None:
        self._database.close()
