"""Accounts: what kinds there are, what they hold, and how their ids are spelled (the schema knows the same)."""

from dataclasses import dataclass
from typing import Literal

from wire.values import Asset

Kind = Literal[
    "bank",
    "wallet",
    "escrow",
    "fee",
    "usd_market",
    "render_market",
    "burned",
    "render_mint",
    "pool",
    "reserve",
    "pay",
    "coupon_mint",
    "coupon",
]
Pool = Literal["job", "availability"]

ASSETS: dict[Kind, Asset] = {
    "bank": "USD",
    "wallet": "USD",
    "escrow": "USD",
    "fee": "USD",
    "usd_market": "USD",
    "render_market": "RENDER",
    "burned": "RENDER",
    "render_mint": "RENDER",
    "pool": "RENDER",
    "reserve": "RENDER",
    "pay": "RENDER",
    "coupon_mint": "COUPON",
    "coupon": "COUPON",
}
MAY_BE_NEGATIVE: frozenset[Kind] = frozenset({"bank", "render_market", "render_mint", "coupon_mint"})
"""The world outside and the mints: what they lack is what everyone else holds."""


@dataclass(frozen=True, slots=True)
class Account:
    """`owner` is a partner, a node or a pool's name; `scope` a booking or an epoch."""

    kind: Kind
    owner: str = ""
    scope: str = ""

    @property
    def id(self) -> str:
        return self.kind + (f":{self.owner}" if self.owner else "") + (f"/{self.scope}" if self.scope else "")

    @property
    def asset(self) -> Asset:
        return ASSETS[self.kind]


BANK = Account("bank")
FEE = Account("fee")
USD_MARKET = Account("usd_market")
RENDER_MARKET = Account("render_market")
BURNED = Account("burned")
RENDER_MINT = Account("render_mint")
COUPON_MINT = Account("coupon_mint")


def wallet(partner: str) -> Account:
    return Account("wallet", partner)


def escrow(partner: str, booking: str) -> Account:
    """Partners choose the ids of their bookings, so the partner belongs to the account's name."""
    return Account("escrow", partner, booking)


def pay(node: str) -> Account:
    return Account("pay", node)


def coupons(node: str, epoch: int) -> Account:
    """A coupon stays bound to the node and the epoch it was minted for (RNP-004: neither transferable nor fungible)."""
    return Account("coupon", node, str(epoch))


def pool(name: Pool, epoch: int) -> Account:
    return Account("pool", name, str(epoch))


def reserve(name: Pool) -> Account:
    return Account("reserve", name)
