"""NATS JWTs: signed JSON between the server and us, strict and bounded, for there are words of the client in it."""

import base64
import binascii
from typing import Annotated, Any, TypeVar

import msgspec

from libs import nats_keys
from libs.nats_keys import Kind

TOKEN_BYTES_MAX = 16 * 1024  # a server reads at most 4 KiB of CONNECT by default
_HEADER = b'{"typ":"JWT","alg":"ed25519-nkey"}'


class BadToken(ValueError):
    """Not a token that its issuer signed; one sentence that repeats nothing of the token."""


class _Header(msgspec.Struct, frozen=True):
    typ: Annotated[str, msgspec.Meta(max_length=8)]
    alg: Annotated[str, msgspec.Meta(max_length=16)]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What every token carries; `iat` and `exp` are Unix seconds."""

    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    iss: Annotated[str, msgspec.Meta(max_length=56)]
    iat: int
    exp: int


C = TypeVar("C", bound=Claims)


def encode(claims: dict[str, Any], seed: str, kind: Kind) -> str:
    """Sign `claims`, which name us as `iss`."""
    body = f"{_encoded(_HEADER)}.{_encoded(msgspec.json.encode(claims))}"
    return f"{body}.{_encoded(nats_keys.sign(seed, kind, body.encode()))}"


def decode(token: bytes, issuer: Kind, shape: type[C]) -> C:
    """The claims of a token signed by the key of kind `issuer` that it names; raises BadToken.

    The signature is checked before the claims are looked at, but for the name of the key. Whether that key
    may be believed, and whether the time is right, is for the caller to say.
    """
    if len(token) > TOKEN_BYTES_MAX:
        raise BadToken("The token is too long.")
    signed, _, signature = token.rpartition(b".")
    header, dot, body = signed.partition(b".")
    if not dot or b"." in body:
        raise BadToken("A token has three parts.")
    if _json(header, _Header) != _Header("JWT", "ed25519-nkey"):
        raise BadToken("The token is of another type.")
    claims: C = _json(body, shape)
    if not nats_keys.verified(claims.iss, issuer, signed, _decoded(signature)):
        raise BadToken("The signature of the token is wrong.")
    return claims


T = TypeVar("T", bound=msgspec.Struct)


def _json(part: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(_decoded(part), type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadToken("A part of the token is not what it should be.") from error


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(part: bytes) -> bytes:
    # One spelling only: no padding, no stray letters, no unused bits set.
    try:
        raw = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadToken("A part of the token is not base64url.") from error
    if _encoded(raw).encode() != part:
        raise BadToken("A part of the token is not base64url.")
    return raw
