"""NATS keys of the other kinds than a user's: who issues tokens, which server signs, and x25519 keys that seal.

Signing and sealing stand on PyNaCl alone: PyPI's `nkeys` knows no curve keys, and `nats-jwt` accepts forged signatures.
"""

import base64
import binascii
from enum import IntEnum

from nacl.exceptions import BadSignatureError, CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from nacl.signing import SigningKey, VerifyKey

_SEED = 18 << 3
_PUBLIC_LENGTH, _SEED_LENGTH = 56, 58
_SEAL_VERSION = b"xkv1"
_NONCE_BYTES = 24


class Kind(IntEnum):
    """The first letter of a public key, and the second of its seed: A, N, U, X."""

    ACCOUNT = 0
    SERVER = 13 << 3
    USER = 20 << 3
    CURVE = 23 << 3


class NotAKey(ValueError):
    """The text is no key of the kind asked for; nothing of the text is repeated, since it may be a secret."""


class NotSealed(ValueError):
    """The bytes were not sealed by that sender for this key."""


def new_seed(kind: Kind, secret: bytes) -> str:
    """The seed that stands for 32 secret bytes."""
    if len(secret) != 32:
        raise NotAKey("A seed is made of 32 bytes.")
    return _checked(bytes([_SEED | kind >> 5, (kind & 31) << 3]) + secret)


def public_of(seed: str, kind: Kind) -> str:
    """The public key of a seed, as one writes it in a configuration."""
    secret = _secret(seed, kind)
    return encode(bytes(PrivateKey(secret).public_key if kind is Kind.CURVE else SigningKey(secret).verify_key), kind)


def encode(public: bytes, kind: Kind) -> str:
    return _checked(bytes([kind]) + public)


def decode(text: str, kind: Kind) -> bytes:
    """The 32 bytes of a public key. One text per key: no other spelling of the same bytes is taken."""
    raw = _unchecked(text, _PUBLIC_LENGTH)
    if raw[0] != kind:
        raise NotAKey(f"This is no public key of kind {kind.name}.")
    return raw[1:]


def sign(seed: str, kind: Kind, message: bytes) -> bytes:
    """64 bytes."""
    return SigningKey(_secret(seed, kind)).sign(message).signature


def verified(public: str, kind: Kind, message: bytes, signature: bytes) -> bool:
    """Whether the holder of `public` signed exactly `message`; anything malformed is a no."""
    if len(signature) != 64:
        return False
    try:
        VerifyKey(decode(public, kind)).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def seal(seed: str, receiver: str, message: bytes) -> bytes:
    """Encrypt for one receiver and prove who sent it (a NaCl box, as nats-server makes it)."""
    return _SEAL_VERSION + bytes(_box(seed, receiver).encrypt(message))


def unseal(seed: str, sender: str, sealed: bytes) -> bytes:
    if not sealed.startswith(_SEAL_VERSION) or len(sealed) < len(_SEAL_VERSION) + _NONCE_BYTES + 16:
        raise NotSealed("The bytes are not sealed.")
    try:
        return _box(seed, sender).decrypt(sealed[len(_SEAL_VERSION) :])
    except (CryptoError, NotAKey) as error:
        raise NotSealed("The seal is broken.") from error


def _box(seed: str, other: str) -> Box:
    return Box(PrivateKey(_secret(seed, Kind.CURVE)), PublicKey(decode(other, Kind.CURVE)))


def _secret(seed: str, kind: Kind) -> bytes:
    raw = _unchecked(seed.strip(), _SEED_LENGTH)
    if raw[0] & 0xF8 != _SEED or ((raw[0] & 7) << 5 | raw[1] >> 3) != kind:
        raise NotAKey(f"This is no seed of kind {kind.name}.")
    return raw[2:]


def _checked(raw: bytes) -> str:
    return base64.b32encode(raw + _checksum(raw)).decode().rstrip("=")


def _unchecked(text: str, length: int) -> bytes:
    if len(text) != length:
        raise NotAKey("A key has another length.")
    try:
        whole = base64.b32decode(text + "=" * (-length % 8))
    except (binascii.Error, ValueError) as error:
        raise NotAKey("A key is written in base32.") from error
    raw = whole[:-2]
    if whole[-2:] != _checksum(raw) or _checked(raw) != text:
        raise NotAKey("The checksum of the key is wrong.")
    return raw


def _checksum(raw: bytes) -> bytes:
    # CRC-16/XMODEM, which the standard library has under this name; NATS writes it little-endian.
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")
