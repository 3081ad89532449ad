"""What a message is: one flat, tagged, immutable Struct whose subject, type and identity are declared together.

The ids inside a subject are fields of the message. Decoding compares them with the subject the message
arrived on, because the bus grants subjects, not bodies: a body that claims another sender is malformed.
"""

import hashlib
import re
from typing import Annotated, Any, ClassVar, Self, TypeVar

import msgspec

BODY_BYTES_MAX = 256 * 1024

# `$(?!\n)` because in Python a bare `$` also matches before a final newline, and a newline in an id is an attack.
Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_\-./]{0,120}$(?!\n)", description="Id of a message.")]
Token = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_\-]{1,64}$(?!\n)", description="One token of a subject.")]
UnixMs = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1, description="Milliseconds since 1970-01-01 UTC.")]

# Written as an escape, and not as the text of one: an even number of backslashes before it are themselves escaped.
_NULL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_FIELD = re.compile(r"\{(\w+)\}")


class Malformed(ValueError):
    """A body that no contract describes; its text is one sentence for the sender."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A message of any kind.

    `id` names the message once and for ever: a repeat with the same body is the same message, a repeat
    with another body is refused. An event or command caused by another message leaves `id` and `at` empty
    and is stamped when it is recorded.
    """

    SUBJECT: ClassVar[str] = ""

    id: Id = ""
    at: UnixMs = 0

    def subject(self) -> str:
        """The subject this message is published on."""
        return _FIELD.sub(lambda match: str(getattr(self, match[1])), self.SUBJECT)

    @classmethod
    def pattern(cls, **known: str) -> str:
        """The subject with `*` for every id that is not given: what one subscribes to."""
        return _FIELD.sub(lambda match: known.get(match[1], "*"), cls.SUBJECT)

    @classmethod
    def family(cls, **known: str) -> str:
        """Like `pattern`, with the verb left open as well: every message about the same thing."""
        return cls.pattern(**known).rsplit(".", 1)[0] + ".*"

    @classmethod
    def verb(cls) -> str:
        return cls.SUBJECT.rsplit(".", 1)[-1]

    def stamped(self, message_id: str, at: int) -> Self:
        """This message with its id and time, unless it has its own."""
        return msgspec.structs.replace(self, id=self.id or message_id, at=self.at or at)


class Command(Message, frozen=True, kw_only=True):
    """Do this; exactly one service owns it."""


class Event(Message, frozen=True, kw_only=True):
    """This happened; anyone who may hear it, may."""


class Query(Message, frozen=True, kw_only=True):
    """Tell me; asking has no effect."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """The answer to a query."""


class Telemetry(Message, frozen=True, kw_only=True):
    """Sampled and perishable: it may be lost and nobody is owed a repeat."""


def encode(message: Message | Reply) -> bytes:
    return msgspec.json.encode(message)


M = TypeVar("M", bound=Message)


def decode(kind: type[M], subject: str, body: bytes) -> M:
    """Decode `body` as `kind`, with the ids of `subject`; raises Malformed with one sentence."""
    if len(body) > BODY_BYTES_MAX:
        raise Malformed(f"The body has {len(body)} bytes; at most {BODY_BYTES_MAX} are read.")
    if b"\\u0000" in body and not issubclass(kind, Telemetry) and _NULL.search(body):
        raise Malformed(f"{kind.__name__}: a text holds the null character U+0000, which no database keeps.")
    try:
        message: M = _decoder(kind).decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{kind.__name__}: {error}.") from error
    if not message.id:
        raise Malformed(f"{kind.__name__}: the message has no id.")
    if message.subject() != subject:
        raise Malformed(f"{kind.__name__}: the ids in the body are not those of the subject {subject}.")
    return message


_DECODERS: dict[type, Any] = {}


def _decoder(kind: type) -> Any:
    if kind not in _DECODERS:
        _DECODERS[kind] = msgspec.json.Decoder(kind)
    return _DECODERS[kind]


def derived_id(cause_id: str, outcome: str) -> str:
    """The id of what `cause_id` brought about: the same cause makes the same id at every rerun.

    Long chains of causes are folded into a digest, so that an id never outgrows its limit.
    """
    whole = f"{cause_id}/{outcome}"
    if len(whole) <= 96:
        return whole
    return f"{hashlib.sha256(cause_id.encode()).hexdigest()[:24]}/{outcome}"


def deduplication_id(message_id: str, body: bytes) -> str:
    """`Nats-Msg-Id` of a publish: the broker then drops true repeats, and only those.

    The broker never compares bodies. With the digest in the id, another body under the same message id
    reaches the inbox, which refuses it by name; with the bare id the broker would swallow it unseen.
    """
    return f"{message_id}~{hashlib.sha256(body).hexdigest()[:16]}"
