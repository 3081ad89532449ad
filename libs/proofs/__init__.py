"""Work whose right answer follows from a seed: `seeded` for small questions, the other modules for the proof of GPU.

The proof of GPU: `geometry` says what is computed, `prover` computes it in torch, `verifier` checks it in NumPy.
"""

from libs.proofs.seeded import (
    CHAIN_LINKS_MAX,
    MEMORY_MB_MAX,
    PAYLOAD_BYTES_MAX,
    PRODUCT_ORDER_MAX,
    chain_digest,
    memory_digest_checked,
    memory_digest_filled,
    payload,
    product_digest,
)

__all__ = [
    "CHAIN_LINKS_MAX",
    "MEMORY_MB_MAX",
    "PAYLOAD_BYTES_MAX",
    "PRODUCT_ORDER_MAX",
    "chain_digest",
    "memory_digest_checked",
    "memory_digest_filled",
    "payload",
    "product_digest",
]
