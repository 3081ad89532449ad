"""What this machine has, and what of it is offered: the NodeSpec that the node joins with."""

import platform
import random
import socket
from importlib.metadata import version
from urllib.parse import urlsplit

import msgspec

from libs.process import port_is_free
from services.node_agent import gpu
from services.node_agent.settings import Settings
from wire.values import CPU_MODEL, Location, NodeSpec, PortBlock

PORTS_PER_NODE = 64
# Below the range that the kernel gives to outgoing connections, so that none of them takes a port of the block.
_FIRST_PORTS = range(20_032, 32_000, PORTS_PER_NODE)


class CapacityError(Exception):
    """The machine cannot offer what it was told to; one sentence says what to change."""


def offered_cards(wanted: str) -> list[gpu.Gpu]:
    """The cards that `all`, `none` or indices such as `0,1` name."""
    if wanted == "none":
        return []
    found = gpu.read_gpus()
    if wanted == "all":
        return list(found.cards)
    by_index = {str(card.index): card for card in found.cards}
    missing = [index for index in wanted.split(",") if index not in by_index]
    if missing:
        raise CapacityError(f"There is no GPU {missing[0]} here ({found.missing or 'see nvidia-smi -L'}).")
    return [by_index[index] for index in wanted.split(",")]


def spec(settings: Settings, cards: list[gpu.Gpu]) -> NodeSpec:
    """What the node says it is; without a card it is an honest CPU node."""
    processor = gpu.read_processor()
    models = {card.model for card in cards}
    if len(models) > 1:
        raise CapacityError(f"The cards differ ({', '.join(sorted(models))}): run an agent for each, with --gpus.")
    said = NodeSpec(
        name=settings.node_name or platform.node()[:32] or "node",
        manufacturer=cards[0].manufacturer if cards else _maker(processor.model),
        model=cards[0].model if cards else CPU_MODEL,
        gpus=len(cards),
        vram_mb=min((card.vram_bytes for card in cards), default=0) >> 20,
        cpu_model=processor.model,
        cpu_cores=settings.node_cpus or processor.cores,
        cpu_mhz=processor.mhz,
        memory_mb=settings.node_memory_mb or processor.memory_bytes >> 20,
        bandwidth_tier=settings.node_bandwidth_tier,
        location=Location(country=settings.node_country, region=settings.node_region, state=settings.node_state),
        host_type=settings.node_host_type,
        compliance=tuple(claim for claim in settings.node_compliance.split(",") if claim),
        address=settings.node_address or address_towards(settings.nats_url),
        ray_ports=ports(settings.node_ports_first),
        agent_version=version("bivouac-network"),
    )
    try:
        return msgspec.convert(msgspec.to_builtins(said), NodeSpec)
    except msgspec.ValidationError as error:
        raise CapacityError(f"A label of this node cannot be published: {error}.") from error


def _maker(processor: str) -> str:
    return processor.split()[0].partition("(")[0] if processor.split() else "unknown"


def address_towards(url: str) -> str:
    """This machine's own address on the way to the network: what other nodes can most likely reach it at."""
    network = urlsplit(url)
    try:
        # Connecting a datagram socket sends nothing: it only asks the kernel for the way.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect((network.hostname or "127.0.0.1", network.port or 4222))
            return str(way.getsockname()[0])
    except OSError as error:
        raise CapacityError(f"The way to {url} is not known ({error}): name this node's --address.") from error


def ports(first: int) -> PortBlock:
    """The block that begins at `first`, or a free one; agents that share a machine rarely draw the same one twice."""
    if first:
        return PortBlock(first=first, count=PORTS_PER_NODE)
    for candidate in random.sample(_FIRST_PORTS, len(_FIRST_PORTS)):
        if all(port_is_free(port) for port in range(candidate, candidate + PORTS_PER_NODE)):
            return PortBlock(first=candidate, count=PORTS_PER_NODE)
    raise CapacityError(f"No {PORTS_PER_NODE} ports in a row are free: name some with BIVOUAC_NODE_PORTS_FIRST.")
