"""What can be set on a node agent: each flag of the command line has a variable of the same name."""

from pathlib import Path
from typing import Literal

import msgspec

from wire.values import BandwidthTier


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """BIVOUAC_NATS_URL                the network to join
    BIVOUAC_NODE_DIRECTORY          where the key and the small store lie
    BIVOUAC_NODE_NAME               a name for people; letters, digits, . - _
    BIVOUAC_NODE_ADDRESS            where other nodes reach this one; empty: its address on the way to the network
    BIVOUAC_NODE_PORTS_FIRST        first of 64 TCP ports for Ray; 0 picks a free block
    BIVOUAC_NODE_CPUS               cores to offer; 0: all
    BIVOUAC_NODE_MEMORY_MB          memory to offer; 0: all
    BIVOUAC_NODE_GPUS               all, none, or indices such as 0,1
    BIVOUAC_NODE_COUNTRY, …_REGION, …_STATE, …_BANDWIDTH_TIER, …_HOST_TYPE   labels
    BIVOUAC_NODE_COMPLIANCE         claims such as SOC2,GDPR
    BIVOUAC_READY_FILE              a file that is touched every 5 s while the network is there, for health checks
    """

    nats_url: str
    node_directory: str = str(Path.home() / ".bivouac" / "node")
    node_name: str = ""
    node_address: str = ""
    node_ports_first: int = 0
    node_cpus: int = 0
    node_memory_mb: int = 0
    node_gpus: str = "all"
    node_country: str = "ZZ"
    node_region: str = "unknown"
    node_state: str = "unknown"
    node_bandwidth_tier: BandwidthTier = BandwidthTier.low_1
    node_host_type: Literal["data_center", "miner", "partner", "render"] = "miner"
    node_compliance: str = ""
    log_level: str = "info"
    ready_file: str = ""
