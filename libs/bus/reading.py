"""Reading what arrives on a stream: a message of one of the service's tables, or the reason why it is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from libs.bus.inbox import cause_of, digest_of, key_of
from wire.message import Malformed, Message, decode

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from libs.bus.outbox import Headers
    from libs.bus.service import Refused
    from libs.telemetry import Spans


@dataclass(slots=True, frozen=True, eq=False)
class Inbound:
    """A message that can be handled."""

    raw: Msg
    kind: type[Message]
    message: Message
    key: str
    digest: bytes
    cause: str


@dataclass(slots=True, frozen=True, eq=False)
class TurnedAway:
    """What will never be handled, and why."""

    raw: Msg
    message_id: str
    reason: Refused
    detail: str


class _Glance(msgspec.Struct):
    """What may be legible of a body that is not a message."""

    type: str = ""
    id: str = ""


class Reader:
    """Finds the kind of a subject as `wire.catalog` does, among the kinds a service knows."""

    def __init__(self, kinds: Iterable[type[Message]]) -> None:
        self._kinds: dict[tuple[str, str, str, int], type[Message]] = {}
        for kind in kinds:
            shape = _shape(kind.SUBJECT)
            assert self._kinds.setdefault(shape, kind) is kind, f"{kind.SUBJECT} cannot be told from another subject"

    def read(self, raw: Msg) -> Inbound | TurnedAway:
        kind = self._kinds.get(_shape(raw.subject))
        if kind is None:
            return TurnedAway(raw, _glance(raw.data).id, "unknown_type", f"No message travels on {raw.subject}.")
        try:
            message = decode(kind, raw.subject, raw.data)
        except Malformed as error:
            seen = _glance(raw.data)
            other = bool(seen.type) and seen.type != kind.__struct_config__.tag
            return TurnedAway(raw, seen.id, "unknown_type" if other else "malformed", str(error))
        return Inbound(
            raw,
            kind,
            message,
            key_of(raw.subject, message.id),
            digest_of(raw.data),
            cause_of(raw.subject, message.id),
        )


def headers_of(inbound: Inbound, spans: Spans) -> Headers:
    """The headers of everything that this message causes."""
    come = inbound.raw.headers or {}
    headers = spans.headers(inbound.kind, inbound.raw.subject, inbound.message.id, come)
    headers["correlation_id"] = come.get("correlation_id", inbound.cause)
    headers["causation_id"] = inbound.message.id
    return headers


def place_of(raw: Msg) -> tuple[str, int, int]:
    """Stream, number in it, and how often it was delivered, from the subject that acknowledges it."""
    tokens = raw.reply.split(".")
    if len(tokens) >= 11:  # with domain and account before the stream
        tokens = tokens[2:]
    return tokens[2], int(tokens[5]), int(tokens[4])


def _shape(subject: str) -> tuple[str, str, str, int]:
    tokens = subject.split(".")
    return tokens[0], tokens[min(1, len(tokens) - 1)], tokens[-1], len(tokens)


def _glance(body: bytes) -> _Glance:
    """Its words are said again in the refusal, which must be a message: see `wire.message.decode`."""
    try:
        seen = msgspec.json.decode(body, type=_Glance)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Glance()
    return _Glance(seen.type, seen.id.replace("\0", ""))
