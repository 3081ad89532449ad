"""The child that does test jobs: a question a line in, an answer a line out; it ends with its input."""

import sys
from collections.abc import Callable

import msgspec

from libs import proofs
from wire.probe import Probe, ProbeAnswer, ProbeKind

DIGESTS: dict[ProbeKind, Callable[[str, int], str]] = {
    "echo": lambda seed, size: seed,
    "product": proofs.product_digest,
    "clock": proofs.chain_digest,
    "memory": proofs.memory_digest_filled,
}


def answer(query: Probe) -> ProbeAnswer:
    if query.kind == "bandwidth":
        filled = proofs.payload(query.seed, query.size).hex()
        return ProbeAnswer(probe_id=query.probe_id, kind=query.kind, payload=filled)
    return ProbeAnswer(probe_id=query.probe_id, kind=query.kind, digest=DIGESTS[query.kind](query.seed, query.size))


def main() -> None:
    import numpy  # noqa: F401 - loaded while the first echo is answered, so that no reading pays for it

    for line in sys.stdin.buffer:
        query = msgspec.json.decode(line, type=Probe)
        try:
            reply = answer(query)
        except (ValueError, MemoryError) as error:
            reply = ProbeAnswer(probe_id=query.probe_id, kind=query.kind, declined=str(error)[:200])
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
