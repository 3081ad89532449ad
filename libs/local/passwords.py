"""Passwords that are made up once and kept in one file that only its owner can read."""

import os
import secrets
from pathlib import Path

import msgspec


class Passwords:
    """By name; a server's data outlives its process, so its passwords must too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        if path.exists():
            self._known = msgspec.json.decode(path.read_bytes(), type=dict[str, str])

    def of(self, name: str) -> str:
        """URL-safe letters, so that it needs no quoting in an address, a configuration or a statement."""
        if name not in self._known:
            self._known[name] = secrets.token_urlsafe(24)
            write_private(self._path, msgspec.json.encode(self._known))
        return self._known[name]


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file as a whole; nobody else can read it at any moment."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
