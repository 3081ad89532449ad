"""Copies files between buckets; a copy that was made before is found, not made again."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from libs.bus.reach import Reach
from libs.objects import NotStored, bucket, fetch, store
from wire.job import Artefact
from wire.names import bucket_of_node, bucket_of_partner


async def to_node(reach: Reach, partner: str, node_id: str, file: Artefact) -> str | None:
    """Bring a partner's file to a node; returns why not, or None."""
    return await _copy(reach, bucket_of_partner(partner), bucket_of_node(node_id), file)


async def to_partner(reach: Reach, node_id: str, partner: str, files: Sequence[Artefact | None]) -> str | None:
    """Bring a node's files to a partner; returns why not, or None."""
    for file in files:
        if file is not None:
            why = await _copy(reach, bucket_of_node(node_id), bucket_of_partner(partner), file)
            if why:
                return why
    return None


async def _copy(reach: Reach, source: str, target: str, file: Artefact) -> str | None:
    with tempfile.TemporaryDirectory(prefix="courier-") as folder:
        path = Path(folder) / file.digest
        try:
            await fetch(reach.jetstream, source, file.digest, file.size, path)
        except NotStored as why:
            return str(why)
        await bucket(reach.jetstream, target)
        await store(reach.jetstream, target, path)
    return None
