"""Ed25519 nkeys in files that only their owner can read: made once, loaded, signed with; a seed is never printed."""

import os
import secrets
from pathlib import Path
from typing import NamedTuple

import nkeys


class NkeyError(Exception):
    """A seed file is missing, open to others or not a seed; the text says how to mend it."""


class Nkey(NamedTuple):
    """A user's key pair."""

    seed: str
    public_key: str

    def sign(self, content: bytes) -> bytes:
        """64 bytes."""
        signature: bytes = nkeys.from_seed(self.seed.encode()).sign(content)
        return signature

    def __repr__(self) -> str:
        return f"Nkey({self.public_key})"


def new() -> Nkey:
    return from_seed(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode())


def from_seed(seed: str) -> Nkey:
    try:
        pair = nkeys.from_seed(seed.strip().encode())
        return Nkey(seed.strip(), pair.public_key.decode())
    except Exception as error:  # the library has a class of its own for each thing that may be wrong
        raise NkeyError("This is not an nkey seed: it has 58 letters and begins with SU.") from error


def load(path: Path) -> Nkey:
    try:
        if path.stat().st_mode & 0o077:
            raise NkeyError(f"{path} is open to others: chmod 600 it.")
        return from_seed(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise NkeyError(f"The seed file {path} cannot be read ({reason}).") from error


def make(path: Path) -> Nkey:
    """The key in `path`, made there with mode 0600 if it is missing; two makers at once end up with one key."""
    if path.exists():
        return load(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(new().seed + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)  # unlike a rename, it fails where another was first
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
    return load(path)
