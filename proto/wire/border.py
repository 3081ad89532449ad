"""What crosses between the account of outsiders (nodes, partners) and the network's own: the catalogue's, and no more.

Permissions alone cannot hold an outsider in an account with JetStream. NATS does not check the reply subject of a
request, and what the server itself answers is published under no one's permissions: seen on 2.15.1, a client whose only
grant was to pull from its own consumer asked with `$JS.API.STREAM.DELETE.<stream>` as reply, the server published its
empty "no messages" there, and the stream was gone. Across an account border such an answer stays on the asker's side,
and on his side there is nothing to delete. What may cross must do no harm with a body that the asker did not write:
hence no purge, no delete, no consumer of one's own, and no direct get, whose answer is a body that he did write.
"""

from typing import Any

from wire.catalog import CATALOG, Party
from wire.message import Command, Event, Message, Query, Telemetry
from wire.names import JETSTREAM_DOMAIN, NODE_COMMANDS_STREAM

OUTSIDERS: frozenset[Party] = frozenset({"node", "partner"})
API = "$JS.API"
API_OUTSIDE = f"$JS.{JETSTREAM_DOMAIN}.API"

INFO, GET = "STREAM.INFO.{stream}", "STREAM.MSG.GET.{stream}"
CONSUMER_INFO = "CONSUMER.INFO.{stream}.{consumer}"
PULL = "CONSUMER.MSG.NEXT.{stream}.{consumer}"
ACK = "$JS.ACK.{stream}.{consumer}.>"
CHUNK, META = "$O.{bucket}.C.*", "$O.{bucket}.M.*"

_READ = (
    INFO.format(stream="*"),
    GET.format(stream="*"),
    CONSUMER_INFO.format(stream=NODE_COMMANDS_STREAM, consumer="*"),
)
_PULL = PULL.format(stream=NODE_COMMANDS_STREAM, consumer="*")
_WRITTEN = (ACK.format(stream=NODE_COMMANDS_STREAM, consumer="*"), CHUNK.format(bucket="*"), META.format(bucket="*"))


def said_outside(kind: type[Message]) -> tuple[str, ...]:
    """The subjects on which outsiders say messages of `kind`."""
    return tuple(
        entry.message.pattern() for entry in CATALOG if issubclass(entry.message, kind) and OUTSIDERS & {*entry.said_by}
    )


def heard_outside() -> tuple[str, ...]:
    """What outsiders listen to, by noun: an outsider subscribes to all that is about himself in one go."""
    heard = (
        entry.message.SUBJECT.split(".")[:2]
        for entry in CATALOG
        if issubclass(entry.message, Event | Telemetry) and OUTSIDERS & {*entry.heard_by}
    )
    return tuple(sorted({f"{kind}.{noun}.>" for kind, noun in heard}))


def asked_outside() -> tuple[str, ...]:
    """The queries that outsiders answer."""
    return tuple(
        entry.message.pattern()
        for entry in CATALOG
        if issubclass(entry.message, Query) and OUTSIDERS & {*entry.heard_by}
    )


def _inward() -> tuple[str, ...]:
    """Published or asked outside, answered inside with one message."""
    return (*said_outside(Command), *said_outside(Event), *said_outside(Query), *_WRITTEN)


def inside(outside: str) -> dict[str, list[dict[str, Any]]]:
    """`exports` and `imports` of the network's account in the server's configuration; `outside` names the other one."""
    only = {"accounts": [outside]}
    return {
        "exports": [
            *({"service": subject, **only} for subject in (*_inward(), *(f"{API}.{read}" for read in _READ))),
            # A pull is answered by several messages.
            {"service": f"{API}.{_PULL}", "response_type": "stream", **only},
            *({"stream": subject, **only} for subject in heard_outside()),
        ],
        "imports": [
            *({"stream": {"account": outside, "subject": subject}} for subject in said_outside(Telemetry)),
            *({"service": {"account": outside, "subject": subject}} for subject in asked_outside()),
        ],
    }


def outside(inside: str) -> dict[str, list[dict[str, Any]]]:
    """The same for the account of the outsiders; `inside` names the network's."""
    only = {"accounts": [inside]}
    return {
        "exports": [
            *({"stream": subject, **only} for subject in said_outside(Telemetry)),
            *({"service": subject, **only} for subject in asked_outside()),
        ],
        "imports": [
            *({"service": {"account": inside, "subject": subject}} for subject in _inward()),
            # Under a name of their own: each account already has `$JS.API`, which answers that it has no JetStream.
            *(
                {"service": {"account": inside, "subject": f"{API}.{call}"}, "to": f"{API_OUTSIDE}.{call}"}
                for call in (*_READ, _PULL)
            ),
            *({"stream": {"account": inside, "subject": subject}} for subject in heard_outside()),
        ],
    }
