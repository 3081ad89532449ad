"""What can be set on the prober, besides the bus."""

from libs.settings import BusSettings


class Settings(BusSettings, frozen=True, kw_only=True):
    """BIVOUAC_PROBE_INTERVAL_SECONDS  mean time between test jobs of a node that has passed one
    BIVOUAC_PROBE_PRODUCT_ORDER     order n of the matrix product
    BIVOUAC_PROBE_CHAIN_LINKS       links of the hash chain
    BIVOUAC_PROBE_MEMORY_MB         megabytes a node has to fill
    BIVOUAC_PROBE_PAYLOAD_BYTES     bytes a node has to send, at most 512 KiB
    BIVOUAC_PROBE_ANSWER_SECONDS    after which a question counts as not answered
    BIVOUAC_PROBE_PROOF_ORDER       order n of the proof of GPU for a node without a card; 0: none is asked for one
    BIVOUAC_PROBE_PROOF_STEPS       chained products of that proof
    BIVOUAC_PROBE_CARD_ORDER, …_CARD_STEPS, …_CARD_EVERY   the same for each card; it commits after `every` steps
    BIVOUAC_PROBE_PROOF_ROWS        rows that are opened
    BIVOUAC_PROBE_PREPARE_SECONDS   a node may take to load what it proves with
    BIVOUAC_PROBE_BUDGET_SECONDS    after which the prober gives up on a node's whole proof
    BIVOUAC_PROBE_EPOCH_SECONDS     after which another B is drawn, and another secret
    """

    probe_interval_seconds: float = 600.0
    probe_product_order: int = 1024
    probe_chain_links: int = 100_000
    probe_memory_mb: int = 64
    probe_payload_bytes: int = 256 * 1024
    probe_answer_seconds: float = 15.0
    probe_proof_order: int = 0
    probe_proof_steps: int = 4
    probe_card_order: int = 8192
    probe_card_steps: int = 512
    probe_card_every: int = 8
    probe_proof_rows: int = 64
    probe_prepare_seconds: float = 45.0
    probe_budget_seconds: float = 120.0
    probe_epoch_seconds: float = 3600.0
