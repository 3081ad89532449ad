"""One network for all tests of a run that need a whole one: two real node agents, three partners, one operator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bivouac.keys import new_seed, public_key, write_seed
from tests.e2e.command_line import Told, bivouac
from tests.e2e.up import Up

NODES = 2
DEPOSIT_USD = 100
QUOTE_SECONDS = 3
"""How long a quote holds in it, so that a test can wait for one to expire."""

POOR = "umbra"
"""A partner with a cent."""


class LiveNetwork:
    """The network, and a home directory with profiles for whoever speaks to it."""

    def __init__(self, up: Up, home: Path) -> None:
        self.up, self.home = up, home
        self.url: str = up.state()["nats_url"]

    def bivouac(self, *words: str, as_: str = "acme", place: Path | None = None) -> Told:
        """One command as a partner, or as the operator."""
        return bivouac(["--profile", as_, *words], self.home, place)

    async def command(self, *words: str, as_: str = "acme", place: Path | None = None) -> Told:
        """The same, for tests whose loop has connections to keep alive meanwhile."""
        return await asyncio.to_thread(self.bivouac, *words, as_=as_, place=place)

    def seed_file(self, name: str) -> Path:
        """The key of a service, the operator, or a partner."""
        own = self.home / ".bivouac" / "profiles" / f"{name}.seed"
        return own if own.exists() else self.up.data / "keys" / f"{name}.seed"

    def admit(self, partner: str, usd: str = "") -> None:
        """A partner of that name with a key, a profile, and money."""
        profiles = self.home / ".bivouac" / "profiles"
        seed = new_seed()
        write_seed(profiles / f"{partner}.seed", seed)
        profile = {"url": self.url, "identity": partner, "role": "partner", "key_file": f"{partner}.seed"}
        (profiles / f"{partner}.json").write_text(json.dumps(profile))
        self._order("register-partner", partner, public_key(seed))
        if usd:
            self._order("deposit", partner, usd)

    def _order(self, *words: str) -> None:
        told = self.bivouac("operator", *words, as_="operator")
        assert told.code == 0, told


@pytest.fixture(scope="session")
def live_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    place = tmp_path_factory.mktemp("live")
    settings = {"BIVOUAC_QUOTE_VALID_SECONDS": str(QUOTE_SECONDS)}
    flags = ("--nodes", str(NODES), "--deposit", str(DEPOSIT_USD), "--json", "--quiet")
    up = Up(place / "network", *flags, settings=settings)
    try:
        up.ready()
        profiles = place / "home" / ".bivouac" / "profiles"
        profiles.mkdir(parents=True)
        for profile in (up.data / "profiles").iterdir():
            (profiles / profile.name).write_bytes(profile.read_bytes())
        network = LiveNetwork(up, place / "home")
        network.admit(POOR, "0.01")
        yield network
    finally:
        up.end()
