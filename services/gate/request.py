"""The server's question about a client: opened, and believed only where server and client have both signed.

The server asks before it has looked at the client's signature, so that is for us to check; and whoever could publish in
the callout account could ask in the server's name, so its signature is checked as well, and no question is taken twice.
"""

import base64
import binascii
from collections import deque
from typing import Annotated, Literal

import msgspec

from libs import nats_keys
from libs.nats_keys import Kind, NotAKey, NotSealed
from services.gate import jwt
from services.gate.jwt import BadToken

SERVER_KEY_HEADER = "Nats-Server-Xkey"
_SKEW_SECONDS = 2  # the server counts in whole seconds, rounded down, and gives less than one of them
_LIFE_SECONDS_MAX = 30

Key = Annotated[str, msgspec.Meta(max_length=56)]
Short = Annotated[str, msgspec.Meta(max_length=255)]


class NotBelieved(ValueError):
    """The question is no question of our server: it gets no answer. One sentence, without the asker's words."""


class Server(msgspec.Struct, frozen=True):
    id: Key


class ClientInfo(msgspec.Struct, frozen=True):
    """What the server knows of the client; `id` is its number on that server."""

    id: int
    kind: Short = ""
    type: Short = ""
    host: Short = ""
    nonce: Short = ""


class ConnectOptions(msgspec.Struct, frozen=True):
    """What the client wrote itself: hostile. `auth_token` names the role it wants."""

    nkey: Short = ""
    sig: Short = ""
    auth_token: Short = ""


class Question(msgspec.Struct, frozen=True):
    """May this client come in? `user_nkey` is the key that the server made up for the answer."""

    server_id: Server
    user_nkey: Key
    client_info: ClientInfo
    connect_opts: ConnectOptions
    type: Literal["authorization_request"]
    version: Literal[2]

    @property
    def signed_by_client(self) -> bool:
        """Whether the client holds the key it names: its signature over the server's nonce is right."""
        client, options = self.client_info, self.connect_opts
        if client.kind != "Client" or not client.nonce:
            return False
        return nats_keys.verified(options.nkey, Kind.USER, client.nonce.encode(), _signature(options.sig))


class _Claims(jwt.Claims, frozen=True, kw_only=True):
    aud: Literal["nats-authorization-request"]
    sub: Key
    nats: Question


class Door:
    """Opens the questions of one server, or of any, where `server` is empty; each of them once."""

    def __init__(self, curve_seed: str, issuer: str, server: str) -> None:
        self._seed, self._issuer, self._server = curve_seed, issuer, server
        self._asked: set[str] = set()
        self._forget: deque[tuple[int, str]] = deque()

    def open(self, sealed: bytes, server_key: str, now: int) -> Question:
        """Raises NotBelieved; `now` is Unix seconds."""
        try:
            token = nats_keys.unseal(self._seed, server_key, sealed)
            claims = jwt.decode(token, Kind.SERVER, _Claims)
            nats_keys.decode(claims.nats.user_nkey, Kind.USER)
        except (BadToken, NotAKey, NotSealed) as error:
            raise NotBelieved(str(error)) from error
        if claims.iss != claims.nats.server_id.id or (self._server and claims.iss != self._server):
            raise NotBelieved("The question was signed by another server.")
        if claims.sub != self._issuer:
            raise NotBelieved("The question is for another issuer.")
        if not claims.iat - _SKEW_SECONDS <= now <= claims.exp + _SKEW_SECONDS:
            raise NotBelieved("The question is too old, or from the future.")
        if claims.exp - claims.iat > _LIFE_SECONDS_MAX:
            raise NotBelieved("The question would be good for too long.")
        self._take_once(claims.nats.user_nkey, now)
        return claims.nats

    def _take_once(self, user_key: str, now: int) -> None:
        while self._forget and self._forget[0][0] < now - 2 * (_LIFE_SECONDS_MAX + _SKEW_SECONDS):
            self._asked.discard(self._forget.popleft()[1])
        if user_key in self._asked:
            raise NotBelieved("The question was asked before.")
        self._asked.add(user_key)
        self._forget.append((now, user_key))


def _signature(text: str) -> bytes:
    """The server takes both alphabets of base64, with and without padding; so do we. Anything else is no signature."""
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
