"""A gate that comes up late: whoever knocked before is let in afterwards, and the network starts all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from libs.local.nats import AuthCallout
from services.network import Network
from tests.drills.network import DrillNetwork

_LATE_SECONDS = 5.0


class LateNetwork(DrillNetwork):
    """Its gate starts late, as on a busy machine."""

    def _start_service(self, name: str) -> None:
        if name == "gate":
            asyncio.get_running_loop().call_later(_LATE_SECONDS, super()._start_service, name)
        else:
            super()._start_service(name)


@pytest.mark.slow
async def test_the_network_starts_though_its_operator_was_taken_for_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server pings a client after a second, which nats-py takes for a yes; a busy server's no comes after that."""
    asked = Network.callout

    def callout(network: Network) -> AuthCallout:
        return msgspec.structs.replace(asked(network), timeout_seconds=2.0)

    monkeypatch.setattr(Network, "callout", callout)
    made = LateNetwork(tmp_path / "net", {}, {})
    try:
        async with asyncio.timeout(60):
            await made.start()
            async with await made.partner("acme") as client:
                assert (await client.balance()).wallet.amount > 0
    finally:
        await made.stop()
