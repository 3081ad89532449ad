"""Transfers: one amount from one account to another, under an id that follows from what it is for.

Ids never depend on the message that brought a transfer about, so whatever asks for it again makes the same one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from services.ledger.domain import account
from services.ledger.domain.account import Account, Pool
from wire.message import derived_id
from wire.values import LeaseUse

Kind = Literal["hold", "post", "void", "plain"]


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount` leaves `debit` for `credit`, counted in their asset's smallest unit; `event` is what tells of it."""

    id: str
    debit: Account
    credit: Account
    amount: int
    event: str
    kind: Kind = "plain"
    partner: str = ""
    booking: str = ""
    lease: str = ""


def moving(transfers: Iterable[Transfer]) -> tuple[Transfer, ...]:
    """Those that move something: nothing is booked for an amount that rounds to zero."""
    return tuple(transfer for transfer in transfers if transfer.amount > 0)


def deposit(partner: str, reference: str, amount: int, event: str) -> Transfer:
    return Transfer(deposit_id(reference), account.BANK, account.wallet(partner), amount, event, partner=partner)


def deposit_id(reference: str) -> str:
    """Of the payment alone: one payment cannot be booked for two partners."""
    return f"deposit/{reference}"


@dataclass(frozen=True, slots=True)
class Escrow:
    """The transfers of one booking."""

    partner: str
    booking: str

    def hold(self, amount: int) -> Transfer:
        return self._between("hold", amount, self.event("escrowed"), "hold")

    def void(self, amount: int, event: str) -> Transfer:
        """What is left at the end goes back."""
        return self._between("refund", amount, event, "void")

    def void_gap(self, lease: str, amount: int) -> Transfer:
        return self._between(f"{lease}/gap", amount, self.event("gap_refunded", lease), "void", lease)

    def charge(self, use: LeaseUse, render: int, epoch: int) -> tuple[Transfer, ...]:
        """5 % to the network, 95 % to the market for `render` that is burned, coupons to the node (RNP-001)."""
        lease, event = use.lease_id, self.event("lease_charged", use.lease_id)
        own = account.escrow(self.partner, self.booking)
        parts: tuple[tuple[str, Account, Account, int, Kind], ...] = (
            ("fee", own, account.FEE, use.fee.amount, "post"),
            ("market", own, account.USD_MARKET, use.burned.amount, "post"),
            ("burn", account.RENDER_MARKET, account.BURNED, render, "plain"),
            ("coupons", account.COUPON_MINT, account.coupons(use.node_id, epoch), use.coupons.amount, "plain"),
        )
        return moving(
            Transfer(self._id(f"{lease}/{name}"), debit, credit, amount, event, kind, self.partner, self.booking, lease)
            for name, debit, credit, amount, kind in parts
        )

    def event(self, verb: str, lease: str = "") -> str:
        """Of the booking, not of the cause: an event of money that is said again is the same event."""
        return derived_id("/".join(filter(None, (self.partner, self.booking, lease, "ledger"))), verb)

    def _between(self, name: str, amount: int, event: str, kind: Kind, lease: str = "") -> Transfer:
        wallet, own = account.wallet(self.partner), account.escrow(self.partner, self.booking)
        debit, credit = (wallet, own) if kind == "hold" else (own, wallet)
        return Transfer(self._id(name), debit, credit, amount, event, kind, self.partner, self.booking, lease)

    def _id(self, name: str) -> str:
        return f"booking/{self.partner}/{self.booking}/{name}"


def epoch_event(epoch: int) -> str:
    return derived_id(f"epoch/{epoch}", "closed")


def mint(epoch: int, name: Pool, amount: int) -> Transfer:
    return _of_epoch(epoch, f"{name}/mint", account.RENDER_MINT, account.pool(name, epoch), amount)


def carry_in(epoch: int, name: Pool, amount: int) -> Transfer:
    return _of_epoch(epoch, f"{name}/carried_in", account.reserve(name), account.pool(name, epoch), amount)


def carry_over(epoch: int, name: Pool, amount: int) -> Transfer:
    return _of_epoch(epoch, f"{name}/carried_over", account.pool(name, epoch), account.reserve(name), amount)


def reward(epoch: int, name: Pool, node: str, amount: int) -> Transfer:
    return _of_epoch(epoch, f"{name}/pay/{node}", account.pool(name, epoch), account.pay(node), amount)


def _of_epoch(epoch: int, name: str, debit: Account, credit: Account, amount: int) -> Transfer:
    return Transfer(f"epoch/{epoch}/{name}", debit, credit, amount, epoch_event(epoch))
