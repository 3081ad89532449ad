"""The JetStream streams, as data: what they carry and how much they may keep."""

from typing import Literal

import msgspec

MIB = 1 << 20


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One stream; `share` is its part of the file store the server was given."""

    name: str
    subjects: tuple[str, ...]
    retention: Literal["workqueue", "limits"]
    share: float
    max_age_seconds: int
    max_msg_size: int = 300 * 1024
    duplicate_window_seconds: int = 120


SERVICE_COMMANDS = Stream(
    name="CMD",
    subjects=("cmd.booking.>", "cmd.job.>", "cmd.operator.>"),
    retention="workqueue",
    share=0.15,
    max_age_seconds=7 * 86_400,
)
# Node commands have a stream of their own: each node reads it through a consumer of its own, and a node that
# never comes back must not fill the stream the services work from.
NODE_COMMANDS = Stream(
    name="NODE_CMD", subjects=("cmd.node.>",), retention="workqueue", share=0.15, max_age_seconds=86_400
)
EVENTS = Stream(name="EVT", subjects=("evt.>",), retention="limits", share=0.35, max_age_seconds=30 * 86_400)
DEAD = Stream(name="DEAD", subjects=("dead.>",), retention="limits", share=0.05, max_age_seconds=30 * 86_400)

STREAMS: tuple[Stream, ...] = (SERVICE_COMMANDS, NODE_COMMANDS, EVENTS, DEAD)

ARTEFACT_BUCKET_BYTES = 256 * MIB


def stream_of(subject: str) -> Stream:
    """The stream that stores `subject`; a subject without one is a programming error."""
    for stream in STREAMS:
        for pattern in stream.subjects:
            if subject.startswith(pattern.removesuffix(">")):
                return stream
    raise LookupError(f"No stream stores {subject}.")
