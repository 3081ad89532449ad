"""What must be as it was before, whatever was sent: money, nodes, processes; and the ledger's own auditor agrees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.bus import ask
from tests.e2e.bus import Bus
from tests.e2e.network import POOR, LiveNetwork
from wire.ledger import AuditReport, Balance, GetAudit, GetBalance
from wire.node import FleetView, GetFleet
from wire.values import usd

COUNTED = "could not be heard"
"""How the first unreadable heartbeat is told; all others are counted."""


@dataclass(frozen=True)
class Standing:
    """How a network stands."""

    wallets: dict[str, int]
    nodes: dict[str, str]
    processes: dict[str, int]


async def standing(network: LiveNetwork, bus: Bus) -> Standing:
    """Raises where something is in escrow, or the audit fails."""
    wallets = {}
    for partner in ("acme", POOR):
        balance = await ask.ask(bus.clients[partner], GetBalance(identity=partner), Balance, timeout=10.0)
        assert balance.in_escrow == usd(0), partner
        wallets[partner] = balance.wallet.amount
    operator = bus.clients["operator"]
    view = await ask.ask(operator, GetFleet(identity="operator"), FleetView, timeout=10.0)
    audit = await ask.ask(operator, GetAudit(identity="operator"), AuditReport, timeout=30.0)
    assert audit.passed, [check for check in audit.checks if not check.holds]
    state = network.up.state()
    running = {name: one["pid"] for part in ("servers", "services", "nodes") for name, one in state[part].items()}
    assert network.up.process.poll() is None
    return Standing(wallets, {node.name: node.state for node in view.nodes}, running)


def errors(network: LiveNetwork) -> list[Any]:
    """What the services have logged as errors."""
    found = []
    for log in sorted(Path(network.up.data, "logs").iterdir()):
        for line in log.read_text(errors="replace").splitlines():
            told = json.loads(line) if line.startswith("{") else {"level": "error", "message": line}
            expected = log.name.startswith("node-") or COUNTED in told["message"]
            if told["level"] in ("error", "critical") and not expected:
                found.append((log.name, told))
    return found
