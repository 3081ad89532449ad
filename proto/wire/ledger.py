"""Who owes whom: deposits, epochs, statements and the auditor's report."""

from typing import Annotated

import msgspec

from wire.message import Command, Event, Query, Reply, Token, UnixMs
from wire.values import LeaseUse, Money, NodeId, PartnerId, Refusal, Text

EpochNumber = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Weight = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9]{1,120}$",
        description="Up to 120 digits: RNP-004's b⁴·t³·m²·c of the readings, a mean over an epoch's test jobs.",
    ),
]


class Deposit(Command, frozen=True, kw_only=True):
    """Book a partner's payment that reached the network outside it; `reference` names that payment."""

    SUBJECT = "cmd.operator.{operator}.deposit"
    operator: PartnerId
    partner: PartnerId
    amount: Money
    reference: Token


class DepositBooked(Event, frozen=True, kw_only=True):
    SUBJECT = "evt.ledger.{partner}.deposited"
    partner: PartnerId
    amount: Money
    wallet: Money
    reference: Token


class CloseEpoch(Command, frozen=True, kw_only=True):
    """Close the running epoch before its time; used where epochs have no length of their own."""

    SUBJECT = "cmd.operator.{operator}.close_epoch"
    operator: PartnerId


class NodeReward(msgspec.Struct, frozen=True, kw_only=True):
    """A node's pay of one epoch with the numbers it follows from.

    `job_reward = coupons / all coupons × compute pool`, `availability_reward = score / all scores × availability
    pool`, both by largest remainder, ties by node id, so that each pool is paid out to the last base unit.
    """

    node_id: NodeId
    coupons: Money
    score_millionths: int
    job_reward: Money
    availability_reward: Money
    weight: Weight = "0"
    """What the availability reward follows from exactly; `score_millionths` is the same, rounded for display."""


class EpochClosed(Event, frozen=True, kw_only=True):
    """An epoch is final. RNP-004: compute pool C_t = E_t × U_compute / (U_compute + U_render).

    `emission` is that E_t, what was set aside for availability not counted. `compute_pool` is C_t and
    `compute_carried_in`, `availability_pool` likewise holds `availability_carried_in`; both came from earlier epochs
    that nobody earned. `carried_over` goes on to the next. U_compute is the USD burned, hence all coupons; `burned`
    is the RENDER it bought. `rewards` lists the first nodes by id of the `nodes` that earned something, as many as a
    message can carry: the statement of any node can be asked for.
    """

    SUBJECT = "evt.epoch.{epoch}.closed"
    epoch: EpochNumber
    started_at: UnixMs
    ended_at: UnixMs
    emission: Money
    usd_compute: Money
    usd_render: Money
    compute_pool: Money
    availability_pool: Money
    carried_over: Money
    burned: Money
    rewards: tuple[NodeReward, ...]
    nodes: Annotated[int, msgspec.Meta(ge=0)] = 0
    all_coupons: Money = Money(0, "COUPON")
    all_weights: Weight = "0"
    compute_carried_in: Money = Money(0, "RENDER")
    availability_carried_in: Money = Money(0, "RENDER")


class EpochRefused(Event, frozen=True, kw_only=True):
    """The epoch could not be closed; its pool carries over."""

    SUBJECT = "evt.epoch.{epoch}.refused"
    epoch: EpochNumber
    refusal: Refusal


class LedgerHeadPublished(Event, frozen=True, kw_only=True):
    """The newest link of the hash chain over all transfers, so that history cannot be rewritten unseen."""

    SUBJECT = "evt.ledger.network.head_published"
    height: int
    head: str


class GetBalance(Query, frozen=True, kw_only=True):
    """Ask what a partner's wallet holds."""

    SUBJECT = "qry.ledger.{identity}.balance"
    identity: PartnerId


class Balance(Reply, frozen=True, kw_only=True):
    wallet: Money
    in_escrow: Money


class GetReceipt(Query, frozen=True, kw_only=True):
    """Ask for the receipt of one booking of one's own."""

    SUBJECT = "qry.ledger.{identity}.receipt"
    identity: PartnerId
    booking_id: Token


class Receipt(Reply, frozen=True, kw_only=True):
    booking_id: Token
    state: str
    escrowed: Money
    cost: Money
    fee: Money
    burned: Money
    refunded: Money
    remaining: Money
    uses: tuple[LeaseUse, ...]
    uses_left_out: Annotated[int, msgspec.Meta(ge=0, description="Uses beyond what a message can carry.")] = 0


class GetStatement(Query, frozen=True, kw_only=True):
    """Ask for a node's pay of an epoch; without `epoch`, of the newest closed one. Pay is public."""

    SUBJECT = "qry.ledger.{identity}.statement"
    identity: Token
    node_id: NodeId
    epoch: EpochNumber | None = None


class Statement(Reply, frozen=True, kw_only=True):
    epoch: EpochNumber
    reward: NodeReward
    uses: tuple[LeaseUse, ...]
    all_coupons: Money
    all_scores_millionths: int
    emission: Money
    usd_compute: Money
    usd_render: Money
    compute_pool: Money
    availability_pool: Money
    balance: Money
    all_weights: Weight = "0"
    compute_carried_in: Money = Money(0, "RENDER")
    availability_carried_in: Money = Money(0, "RENDER")
    uses_left_out: Annotated[int, msgspec.Meta(ge=0, description="Uses beyond what a message can carry.")] = 0


class GetAudit(Query, frozen=True, kw_only=True):
    """Ask the auditor to check every invariant of the ledger again, from the first transfer on."""

    SUBJECT = "qry.ledger.{identity}.audit"
    identity: PartnerId


class AuditCheck(msgspec.Struct, frozen=True, kw_only=True):
    name: Text
    holds: bool
    detail: Text


class AuditReport(Reply, frozen=True, kw_only=True):
    passed: bool
    transfers: int
    head: str
    checks: tuple[AuditCheck, ...]
