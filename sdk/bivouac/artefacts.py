"""Files to and from one's own bucket in the object store, named by their SHA-256, with progress and within bounds.

It is the object store of NATS (ADR-20), written here with what `wire.border` lets a partner do and no more: chunks and
their description are published, and read back one by one; nothing is purged and no consumer is made.
"""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from bivouac.connection import Connection
from bivouac.errors import BivouacError, Damaged, Unreachable
from wire.border import CHUNK, META
from wire.job import Artefact
from wire.names import bucket_stream

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all)."""

CHUNK_BYTES = 128 * 1024
_IN_FLIGHT = 8
_TRIES = 4
_CALL_SECONDS = 10.0
_BROKEN = (nats.errors.Error, APIError, TimeoutError, OSError)


def silent(done: int, whole: int) -> None:
    """No progress shown."""


async def upload(connection: Connection, bucket: str, file: Path, artefact: Artefact, progress: Progress) -> None:
    """Stores `file` under its digest; a file that is there already is not sent again."""

    async def once(stream: JetStreamContext) -> None:
        try:
            known = await _description(stream, bucket, artefact.digest)
        except NotFoundError:
            await _put(stream, bucket, file, artefact, progress)
            return
        if known.get("size") != artefact.size:
            await _put(stream, bucket, file, artefact, progress)
        progress(artefact.size, artefact.size)

    await _persist(connection, once, "The files could not be stored")


async def download(connection: Connection, bucket: str, artefact: Artefact, into: Path, progress: Progress) -> None:
    """Writes the stored file to `into`; raises Damaged unless its bytes have the digest they are named by."""

    async def once(stream: JetStreamContext) -> None:
        try:
            known = await _description(stream, bucket, artefact.digest)
        except NotFoundError as error:
            raise BivouacError(f"File {artefact.digest[:12]}… is no longer stored; files are kept for days.") from error
        with into.open("wb") as sink:
            digest = await _get(stream, bucket, str(known.get("nuid")), artefact, sink, progress)
        if digest != artefact.digest:
            raise Damaged(f"The file came with another digest than {artefact.digest[:12]}…; it was not kept.")

    await _persist(connection, once, "The file could not be fetched")


async def _put(stream: JetStreamContext, bucket: str, file: Path, artefact: Artefact, progress: Progress) -> None:
    """Chunks of one connection are stored in the order they are sent in, so several may be under way."""
    name = secrets.token_hex(11)
    subject, sent = CHUNK.format(bucket=bucket).replace("*", name), 0
    with file.open("rb") as source:
        while chunks := [chunk for _ in range(_IN_FLIGHT) if (chunk := source.read(CHUNK_BYTES))]:
            await asyncio.gather(*(stream.publish(subject, chunk, timeout=_CALL_SECONDS) for chunk in chunks))
            sent += sum(len(chunk) for chunk in chunks)
            progress(sent, artefact.size)
    description = {
        "name": artefact.digest,
        "bucket": bucket,
        "nuid": name,
        "size": artefact.size,
        "chunks": -(-artefact.size // CHUNK_BYTES),
        "digest": "SHA-256=" + base64.urlsafe_b64encode(bytes.fromhex(artefact.digest)).decode(),
        "mtime": datetime.fromtimestamp(time.time(), UTC).isoformat(),
        "options": {"max_chunk_size": CHUNK_BYTES},
    }
    await stream.publish(
        _described_at(bucket, artefact.digest),
        json.dumps(description).encode(),
        timeout=_CALL_SECONDS,
        headers={"Nats-Rollup": "sub"},
    )


async def _get(
    stream: JetStreamContext, bucket: str, name: str, artefact: Artefact, sink: BinaryIO, progress: Progress
) -> str:
    """The digest of what was written to `sink`, which never grows past what was announced."""
    subject, sequence, done = CHUNK.format(bucket=bucket).replace("*", name), 1, 0
    digest = hashlib.sha256()
    while done < artefact.size:
        try:
            stored = await stream.get_msg(bucket_stream(bucket), seq=sequence, subject=subject, next=True)
        except NotFoundError as error:
            raise Damaged(f"Of file {artefact.digest[:12]}… only {done:,} bytes are stored.") from error
        chunk = stored.data or b""
        done += len(chunk)
        if done > artefact.size:
            raise Damaged(f"The stored file is larger than the {artefact.size:,} bytes it was announced with.")
        digest.update(chunk)
        await asyncio.to_thread(sink.write, chunk)
        sequence = (stored.seq or sequence) + 1
        progress(done, artefact.size)
    return digest.hexdigest()


async def _description(stream: JetStreamContext, bucket: str, digest: str) -> dict[str, Any]:
    """What is stored under a digest. A link is refused: it would have another file read in its place."""
    stored = await stream.get_last_msg(bucket_stream(bucket), _described_at(bucket, digest))
    try:
        known = json.loads(stored.data or b"")
        assert isinstance(known, dict)
        linked = known.get("options", {}).get("link")
    except (ValueError, AssertionError, AttributeError) as error:
        raise Damaged(f"What is stored as {digest[:12]}… cannot be read.") from error
    if known.get("deleted"):
        raise NotFoundError
    if linked or not str(known.get("nuid", "")).isalnum():
        raise Damaged(f"What is stored as {digest[:12]}… is not a file.")
    return known


def _described_at(bucket: str, digest: str) -> str:
    return META.format(bucket=bucket).replace("*", base64.urlsafe_b64encode(digest.encode()).decode())


async def _persist(connection: Connection, once: Callable[[JetStreamContext], Any], failed: str) -> None:
    failure: Exception | None = None
    for attempt in range(_TRIES):
        await asyncio.sleep(attempt * 0.5)
        try:
            await once(await connection.jetstream())
        except NotFoundError:
            raise BivouacError(
                f"{failed}: {connection.identity} has no bucket here; is it registered as a partner?"
            ) from None
        except _BROKEN as error:
            failure = error
        else:
            return
    words = str(failure) or type(failure).__name__
    raise Unreachable(f"{failed} ({words}): asking again is safe.") from failure
