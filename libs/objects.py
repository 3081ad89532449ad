"""Files in NATS's object store (ADR-20), named by their SHA-256; what another party stored is read as hostile bytes.

Only what one may do across an account border is used: chunks and their description are published, and read back one
by one. The library's own `get` would follow links into other buckets and trust the description it finds.
"""

import asyncio
import base64
import hashlib
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import ObjectStoreConfig
from nats.js.errors import APIError, BucketNotFoundError, NotFoundError
from nats.js.object_store import ObjectStore

BUCKET_BYTES = 256 << 20
BUCKET_TTL_SECONDS = 7 * 86_400
CHUNK_BYTES = 128 * 1024
_IN_FLIGHT = 8
_CALL_SECONDS = 10.0
_FETCH_SECONDS = 120.0
_SLICE = 1 << 20


class NotStored(Exception):
    """The bucket has no such file, or what it has under that name is not that file; one sentence says which."""


async def bucket(jetstream: JetStreamContext, name: str) -> ObjectStore:
    """The bucket, made if it is not there yet; two makers at once are fine."""
    try:
        return await jetstream.object_store(name)
    except (BucketNotFoundError, NotFoundError):
        pass
    try:
        return await jetstream.create_object_store(
            name, config=ObjectStoreConfig(bucket=name, ttl=BUCKET_TTL_SECONDS, max_bytes=BUCKET_BYTES)
        )
    except APIError:
        return await jetstream.object_store(name)


async def fetch(jetstream: JetStreamContext, bucket: str, digest: str, size: int, path: Path) -> None:
    """Write the file named `digest`, of exactly `size` bytes, to `path`; raises NotStored where it cannot be had."""
    try:
        async with asyncio.timeout(_FETCH_SECONDS):
            await _fetch(jetstream, bucket, digest, size, path)
    except TimeoutError as error:
        raise NotStored(f"File {digest[:12]}… did not arrive within {_FETCH_SECONDS:.0f} s.") from error


async def _fetch(jetstream: JetStreamContext, bucket: str, digest: str, size: int, path: Path) -> None:
    described = await _described(jetstream, bucket, digest)
    chunks = f"$O.{bucket}.C.{described['nuid']}"
    whole, left, sequence = hashlib.sha256(), size, 1
    with path.open("wb") as sink:
        while left > 0:
            try:
                stored = await jetstream.get_msg(_stream(bucket), seq=sequence, subject=chunks, next=True)
            except NotFoundError as error:
                raise NotStored(f"File {digest[:12]}… is not the {size} bytes it was announced as.") from error
            chunk = stored.data or b""
            if not 0 < len(chunk) <= left:
                raise NotStored(f"File {digest[:12]}… is not the {size} bytes it was announced as.")
            whole.update(chunk)
            sink.write(chunk)
            left -= len(chunk)
            sequence = (stored.seq or sequence) + 1
    if whole.hexdigest() != digest:
        raise NotStored(f"What is stored as {digest[:12]}… has another digest.")


async def store(jetstream: JetStreamContext, bucket: str, path: Path) -> tuple[str, int]:
    """Store a file under its digest, unless it is there already; returns digest and size in bytes."""
    digest, size = await asyncio.to_thread(digest_of, path), path.stat().st_size
    try:
        if (await _described(jetstream, bucket, digest)).get("size") == size:
            return digest, size
    except NotStored:
        pass
    name = secrets.token_hex(11)
    with path.open("rb") as source:
        # Chunks of one connection are stored in the order they are sent in, so several may be under way.
        while some := [chunk for _ in range(_IN_FLIGHT) if (chunk := source.read(CHUNK_BYTES))]:
            sending = (jetstream.publish(f"$O.{bucket}.C.{name}", chunk, timeout=_CALL_SECONDS) for chunk in some)
            await asyncio.gather(*sending)
    description = {
        "name": digest,
        "bucket": bucket,
        "nuid": name,
        "size": size,
        "chunks": -(-size // CHUNK_BYTES),
        "digest": "SHA-256=" + base64.urlsafe_b64encode(bytes.fromhex(digest)).decode(),
        "mtime": datetime.now(UTC).isoformat(),
        "options": {"max_chunk_size": CHUNK_BYTES},
    }
    headers = {"Nats-Rollup": "sub"}
    await jetstream.publish(
        _meta(bucket, digest), json.dumps(description).encode(), timeout=_CALL_SECONDS, headers=headers
    )
    return digest, size


def digest_of(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as source:
        while piece := source.read(_SLICE):
            whole.update(piece)
    return whole.hexdigest()


async def _described(jetstream: JetStreamContext, bucket: str, digest: str) -> dict[str, Any]:
    """What is stored under a digest; links are refused, since they would have another file read in its place."""
    try:
        stored = await jetstream.get_last_msg(_stream(bucket), _meta(bucket, digest))
    except NotFoundError as error:
        raise NotStored(f"No file {digest[:12]}… is stored.") from error
    try:
        known = json.loads(stored.data or b"")
        usable = not known.get("deleted") and "link" not in (known.get("options") or {})
        if usable and str(known["nuid"]).isalnum():
            return dict(known)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise NotStored(f"What is stored as {digest[:12]}… is not a file.")


def _stream(bucket: str) -> str:
    return f"OBJ_{bucket}"


def _meta(bucket: str, digest: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(digest.encode()).decode()}"
