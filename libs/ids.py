"""New ids: sortable by time, unguessable, made at the edge and passed inwards as arguments."""

import secrets

from libs.clock import now_ms

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case: fit for a token of a subject


def ulid(now: int, entropy: int) -> str:
    """26 letters: 48 bits of Unix milliseconds, then 80 bits of `entropy`; ids sort as their times do."""
    number = (now & (1 << 48) - 1) << 80 | entropy & (1 << 80) - 1
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def new_id(prefix: str = "") -> str:
    """A fresh id such as `bkg_01j…`; with no prefix the bare id."""
    fresh = ulid(now_ms(), secrets.randbits(80))
    return f"{prefix}_{fresh}" if prefix else fresh


def new_token() -> str:
    """A secret of 32 bytes, in hexadecimal."""
    return secrets.token_hex(32)
