"""Nodes, orders and the answers of the rest of the network, as the scheduler's tests need them."""

import hashlib
from typing import Any

from services.scheduler.domain.pool import TIERS, Candidate
from wire.booking import BookingQuoted, EscrowFunded, NodesHeld, PlaceBooking
from wire.job import Artefact, SubmitJob
from wire.node import NodeJoined, RayNodeFailed, RayNodeStarted, StartRayNode
from wire.quote import Quote
from wire.values import BandwidthTier, ClusterRequest, Location, Money, NodeSpec, PortBlock, usd

T0 = 1_700_000_000_000
MODEL = "RTX 4090"
HOURLY = usd(350_000)
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def node_id(number: int) -> str:
    """As good as a public key: fit for a subject, its own for every number, and in the order of the numbers."""
    digits = "".join(_BASE32[int(digit)] for digit in f"{number:08d}")
    digest = hashlib.sha256(str(number).encode()).digest()
    return "U" + digits + "".join(_BASE32[byte % 32] for byte in digest * 2)[:47]


def spec(**changes: Any) -> NodeSpec:
    values: dict[str, Any] = {
        "name": "rig",
        "manufacturer": "NVIDIA",
        "model": MODEL,
        "gpus": 1,
        "vram_mb": 24_576,
        "cpu_model": "cpu",
        "cpu_cores": 8,
        "cpu_mhz": 3000,
        "memory_mb": 65_536,
        "bandwidth_tier": BandwidthTier.med_1,
        "location": Location(country="DE"),
        "ray_ports": PortBlock(first=20_000, count=100),
    }
    return NodeSpec(**{**values, **changes})


def joined(number: int, boot: str = "boot_1", **changes: Any) -> NodeJoined:
    return NodeJoined(node_id=node_id(number), boot_id=f"{boot}_{number}", spec=spec(**changes))


def request(**changes: Any) -> ClusterRequest:
    return ClusterRequest(**{"nodes": 2, "model": MODEL, "duration_seconds": 3600, **changes})


def order(booking_id: str = "bkg_1", partner: str = "acme", **changes: Any) -> PlaceBooking:
    max_total = changes.pop("max_total", usd(10_000_000))
    quote_id = changes.pop("quote_id", None)
    return PlaceBooking(
        partner=partner, booking_id=booking_id, request=request(**changes), max_total=max_total, quote_id=quote_id
    )


def quote(wanted: ClusterRequest, hourly: Money = HOURLY) -> Quote:
    total = -(-hourly.amount * wanted.nodes * wanted.duration_seconds // 3600)
    return Quote(
        quote_id="quo_1",
        request=wanted,
        lines=(),
        hourly=hourly,
        total=usd(total),
        issued_at=T0,
        expires_at=T0 + 600_000,
    )


def quoted(placed: PlaceBooking) -> BookingQuoted:
    return BookingQuoted(partner=placed.partner, booking_id=placed.booking_id, quote=quote(placed.request))


def funded(held: NodesHeld) -> EscrowFunded:
    return EscrowFunded(partner=held.partner, booking_id=held.booking_id, amount=held.escrow, wallet_left=usd(0))


def started(command: StartRayNode, **changes: Any) -> RayNodeStarted:
    values: dict[str, Any] = {
        "node_id": command.node_id,
        "lease_id": command.lease.lease_id,
        "fence": command.lease.fence,
        "role": command.role,
        "generation": command.generation,
        "start_ms": 1000,
    }
    return RayNodeStarted(**{**values, **changes})


def job(job_id: str = "job_1", booking_id: str = "bkg_1", partner: str = "acme", **changes: Any) -> SubmitJob:
    values: dict[str, Any] = {
        "entrypoint": ("python", "main.py"),
        "files": Artefact(digest="a" * 64, size=10),
        "environment": {"SEED": "1"},
    }
    return SubmitJob(partner=partner, booking_id=booking_id, job_id=job_id, **{**values, **changes})


def candidate(number: int, **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "node_id": node_id(number),
        "model": MODEL,
        "gpus": 1,
        "tier": TIERS[BandwidthTier.med_1],
        "country": "DE",
        "reputation_millis": 50,
        "last_leased_at": 0,
        "fence": 0,
        "address": "127.0.0.1",
        "ports": PortBlock(first=20_000, count=100),
        "free": True,
    }
    return Candidate(**{**values, **changes})


def failed(command: StartRayNode, **changes: Any) -> RayNodeFailed:
    values: dict[str, Any] = {
        "node_id": command.node_id,
        "lease_id": command.lease.lease_id,
        "fence": command.lease.fence,
        "generation": command.generation,
        "detail": "no",
    }
    return RayNodeFailed(**{**values, **changes})
