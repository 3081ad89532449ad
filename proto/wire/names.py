"""Names that several parties must agree on beside subjects: inboxes, object-store buckets and consumers.

Each name carries the identity it belongs to, because the gate grants names, one identity at a time.
"""

from wire.streams import NODE_COMMANDS

NODE_COMMANDS_STREAM = NODE_COMMANDS.name

ALL_TELEMETRY = "tel.>"
"""What is said in passing and kept in no stream."""

JETSTREAM_DOMAIN = "bivouac"
"""What nodes and partners give their NATS library as JetStream domain: their account sees that part of the API alone
which `wire.border` lets through, under this name. Services and operators need none."""


def inbox_prefix(identity: str) -> str:
    """What a client gives its NATS library as inbox prefix, so that nobody else may hear its answers.

    `identity` is the node id, or the name of the partner, operator or service. The grant is this and `.>`.
    """
    return f"_INBOX_{identity}"


def bucket_of_partner(partner: str) -> str:
    """The object-store bucket of a partner's files and results; the gate makes it before it lets the partner in."""
    return f"partner_{partner}"


def bucket_of_node(node_id: str) -> str:
    """The object-store bucket of what a node reads and writes; the courier makes it before its first delivery.

    Not the gate: anyone may join as a node, and a stream for each key that was ever tried would fill the disk.
    """
    return f"node_{node_id}"


def bucket_stream(bucket: str) -> str:
    """The JetStream stream in which an object-store bucket lies."""
    return f"OBJ_{bucket}"


def node_consumer(node_id: str) -> str:
    """The durable pull consumer on `NODE_COMMANDS_STREAM` through which a node takes its own commands."""
    return node_id
