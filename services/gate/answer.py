"""What the server is told: a user with permissions and an end, or a reason; signed by the issuer."""

import secrets
from typing import Any

import msgspec

from libs import nats_keys
from libs.nats_keys import Kind
from services.gate import jwt
from services.gate.domain.admission import Admitted, Denied
from services.gate.domain.permissions import permissions
from services.gate.request import Question
from wire.streams import NODE_COMMANDS

_VERSION = 2
# Of a token's limits the server, 2.15.1, looks at none where its accounts come from its configuration: what is in force
# is set there. A server in operator mode heeds them.
_SUBSCRIPTIONS_MAX = 500
_PAYLOAD_BYTES_MAX = 1024 * 1024
_NANOSECONDS = 10**9

assert NODE_COMMANDS.max_msg_size <= _PAYLOAD_BYTES_MAX


class Signet(msgspec.Struct, frozen=True):
    """The issuer's seed, and the account each role comes to live in."""

    seed: str
    inside_account: str
    outside_account: str
    jwt_seconds: int

    @property
    def public_key(self) -> str:
        return nats_keys.public_of(self.seed, Kind.ACCOUNT)

    def answer(self, question: Question, verdict: Admitted | Denied, now: int) -> bytes:
        """The token for the server; `now` is Unix seconds."""
        if isinstance(verdict, Denied):
            said: dict[str, Any] = {"error": verdict.reason}
        else:
            said = {"jwt": self._user(question, verdict, now)}
        body = {"aud": question.server_id.id, "nats": {**said, "type": "authorization_response", "version": _VERSION}}
        return self._signed(question, body, now).encode()

    def _user(self, question: Question, admitted: Admitted, now: int) -> str:
        may = permissions(admitted.role, admitted.identity)
        responses = {"resp": {"max": 1, "ttl": may.answer_seconds * _NANOSECONDS}} if may.answer_seconds else {}
        body = {
            "aud": self.inside_account if admitted.role == "operator" else self.outside_account,
            # The server's advisories and its list of connections call the connection by this name.
            "name": admitted.identity,
            "exp": now + self.jwt_seconds,
            "nats": {
                "pub": {"allow": may.publish},
                "sub": {"allow": may.subscribe},
                **responses,
                "subs": _SUBSCRIPTIONS_MAX,
                "data": -1,
                "payload": _PAYLOAD_BYTES_MAX,
                "allowed_connection_types": ["STANDARD"],
                "type": "user",
                "version": _VERSION,
            },
        }
        return self._signed(question, body, now)

    def _signed(self, question: Question, body: dict[str, Any], now: int) -> str:
        claims = {"jti": secrets.token_hex(16), "iat": now, "iss": self.public_key, "sub": question.user_nkey, **body}
        return jwt.encode(claims, self.seed, Kind.ACCOUNT)
