"""Renders proto/schema/*.json and proto/asyncapi.json from `wire`; with --check, only says whether they are current."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from wire.catalog import CATALOG, Entry
from wire.message import Command, Event, Message, Query, Reply, Telemetry
from wire.streams import STREAMS

PROTO = Path(__file__).parent.parent / "proto"
KINDS: dict[type[Message], str] = {Command: "command", Event: "event", Query: "query", Telemetry: "telemetry"}


def kind_of(message: type[Message]) -> str:
    return next(name for base, name in KINDS.items() if issubclass(message, base))


def schema_of(message: type[msgspec.Struct]) -> dict[str, Any]:
    """One self-contained JSON Schema 2020-12 document."""
    (reference,), components = msgspec.json.schema_components([message], ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **reference, "$defs": components}


def replies() -> list[type[Reply]]:
    return sorted(Reply.__subclasses__(), key=lambda reply: reply.__name__)


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: a channel per message, with who sends it and who receives it."""
    everything = [*(entry.message for entry in CATALOG), *replies()]
    references, components = msgspec.json.schema_components(everything, ref_template="#/components/schemas/{name}")
    del references
    channels, operations = {}, {}
    for entry in CATALOG:
        channels[entry.message.__name__] = channel_of(entry)
        for action, parties in (("send", entry.said_by), ("receive", entry.heard_by)):
            for party in parties:
                operations[f"{party}.{action}.{entry.message.__name__}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{entry.message.__name__}"},
                    "tags": [{"name": party}],
                }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Bivouac",
            "version": "1",
            "description": "Every message of the network. Bodies are JSON; time is Unix milliseconds, money integers.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": components,
            "messages": {kind.__name__: message_of(kind) for kind in everything},
        },
    }


def channel_of(entry: Entry) -> dict[str, Any]:
    message = entry.message
    tokens = [token[1:-1] for token in message.SUBJECT.split(".") if token.startswith("{")]
    stored = [stream.name for stream in STREAMS if any(message.SUBJECT.startswith(s[:-1]) for s in stream.subjects)]
    return {
        "address": message.SUBJECT,
        "description": summary(message),
        "messages": {message.__name__: {"$ref": f"#/components/messages/{message.__name__}"}},
        "parameters": {token: {"description": f"`{token}` of the body; they must agree."} for token in tokens},
        "x-kind": kind_of(message),
        "x-stream": stored[0] if stored else None,
    }


def message_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": kind.__name__,
        "summary": summary(kind),
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }


def summary(kind: type[msgspec.Struct]) -> str:
    return " ".join((kind.__doc__ or kind.__name__).split())


def rendered() -> dict[Path, str]:
    """Path → text of every generated file."""
    files = {PROTO / "asyncapi.json": asyncapi()}
    for kind in [*(entry.message for entry in CATALOG), *replies()]:
        files[PROTO / "schema" / f"{kind.__name__}.json"] = schema_of(kind)
    return {path: json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n" for path, body in files.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is not current")
    check = parser.parse_args().check
    wanted = rendered()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    orphans = [path for path in (PROTO / "schema").glob("*.json") if path not in wanted]
    if check:
        for path in stale + orphans:
            print(f"{path.relative_to(PROTO.parent)} is not current: run scripts/contracts.py", file=sys.stderr)
        return 1 if stale or orphans else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path])
    for path in orphans:
        path.unlink()
    print(f"contracts: {len(wanted)} files, {len(stale)} written, {len(orphans)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
