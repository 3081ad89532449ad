"""Keys: an ed25519 seed in a file that only its owner reads; the public half is what a network registers."""

import os
import secrets
from pathlib import Path

import nkeys

from bivouac.errors import Invalid


def new_seed() -> str:
    return nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode()  # type: ignore[no-any-return]


def public_key(seed: str) -> str:
    """The public nkey (`U…`) of a seed; raises Invalid where the seed is none."""
    words = bytearray(seed.strip().encode("utf-8"))
    try:
        prefix, raw = nkeys.decode_seed(words)
        # The library does not look at the checksum; a mistyped letter would be another identity.
        whole = nkeys.encode_seed(bytes(raw), prefix) == bytes(words)
        key: str = nkeys.from_seed(words).public_key.decode()
    except Exception as error:  # it raises whatever its arithmetic meets
        raise Invalid("That is not a key seed: one begins with SU and has 58 letters.") from error
    if not whole or not key.startswith("U"):
        raise Invalid("That is not a user's key seed, or a letter of it is wrong: one begins with SU.")
    return key


def read_seed(path: Path) -> str:
    """The seed in a key file; raises Invalid with what to mend."""
    try:
        seed = path.expanduser().read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a text file"
        raise Invalid(
            f"The key file {path} cannot be read ({reason.lower()}): make one with `bivouac keys new`."
        ) from None
    try:
        public_key(seed)
    except Invalid as error:
        raise Invalid(f"The key file {path} holds no key. {error}") from None
    return seed


def write_seed(path: Path, seed: str) -> None:
    """Writes a new key file with mode 0600; never over one that is there."""
    path = path.expanduser()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Invalid(f"{path} exists, and a key is never overwritten: name another file.") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be written ({(error.strerror or str(error)).lower()}): name another.") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(seed + "\n")
