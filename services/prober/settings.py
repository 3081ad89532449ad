"""What can be set on the prober, besides the bus."""

from libs.settings import BusSettings


class Settings(BusSettings, frozen=True, kw_only=True):
    """BIVOUAC_PROBE_INTERVAL_SECONDS  mean time between test jobs of a node that has passed one
    BIVOUAC_PROBE_PRODUCT_ORDER     order n of the matrix product
    BIVOUAC_PROBE_CHAIN_LINKS       links of the hash chain
    BIVOUAC_PROBE_MEMORY_MB         megabytes a node has to fill
    BIVOUAC_PROBE_PAYLOAD_BYTES     bytes a node has to send, at most 512 KiB
    BIVOUAC_PROBE_ANSWER_SECONDS    after which a question counts as not answered
    """

    probe_interval_seconds: float = 600.0
    probe_product_order: int = 1024
    probe_chain_links: int = 100_000
    probe_memory_mb: int = 64
    probe_payload_bytes: int = 256 * 1024
    probe_answer_seconds: float = 15.0
