"""The life of a booking, from the order to the receipt."""

from typing import Annotated, Literal

import msgspec

from wire.job import JobStatus
from wire.message import Command, Event, Query, Reply, Token, UnixMs
from wire.quote import Quote
from wire.values import ClusterRequest, LeaseTerms, LeaseUse, Money, NodeId, PartnerId, Refusal, Text

EndReason = Literal["released", "expired", "refused", "cluster_failed"]
LeaseEndReason = Literal["released", "expired", "node_lost", "node_left", "start_failed", "cluster_failed", "banned"]


class PlaceBooking(Command, frozen=True, kw_only=True, omit_defaults=True):
    """Book a cluster: at the price of `quote_id`, or at today's price where none is named, up to `max_total`."""

    SUBJECT = "cmd.booking.{partner}.{booking_id}.place"
    partner: PartnerId
    booking_id: Token
    request: ClusterRequest
    max_total: Money
    quote_id: Token | None = None


class ReleaseBooking(Command, frozen=True, kw_only=True):
    """End a booking now; what was not used is refunded."""

    SUBJECT = "cmd.booking.{partner}.{booking_id}.release"
    partner: PartnerId
    booking_id: Token


class BookingEvent(Event, frozen=True, kw_only=True):
    """What every event of a booking carries."""

    partner: PartnerId
    booking_id: Token


class BookingPlaced(BookingEvent, frozen=True, kw_only=True):
    """The order is valid and waits for its price."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.placed"
    request: ClusterRequest
    max_total: Money
    quote_id: Token | None = None


class BookingQuoted(BookingEvent, frozen=True, kw_only=True):
    """The price this booking will be charged by."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.quoted"
    quote: Quote


class QuoteDeclined(BookingEvent, frozen=True, kw_only=True):
    """Pricing has no price for this order."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.quote_declined"
    refusal: Refusal


class NodesHeld(BookingEvent, frozen=True, kw_only=True):
    """All nodes of the gang are held, until `hold_expires_at` unless the escrow is funded."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.held"
    leases: tuple[LeaseTerms, ...]
    escrow: Money
    hold_expires_at: UnixMs


class EscrowFunded(BookingEvent, frozen=True, kw_only=True):
    """The most the booking can cost has left the partner's wallet and waits in escrow."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.escrowed"
    amount: Money
    wallet_left: Money


class EscrowDeclined(BookingEvent, frozen=True, kw_only=True):
    """The partner's wallet does not cover the booking."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.escrow_declined"
    refusal: Refusal


class BookingRefused(BookingEvent, frozen=True, kw_only=True):
    """The booking ends before it began; nothing was charged."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.refused"
    refusal: Refusal


class ClusterReady(BookingEvent, frozen=True, kw_only=True):
    """Every node of the gang is a member of one Ray cluster. Billing begins at `at`."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.ready"
    head_node_id: NodeId
    node_ids: tuple[NodeId, ...]
    generation: Annotated[int, msgspec.Meta(ge=1, description="1, and one more for each restart of the head.")] = 1
    expires_at: UnixMs


class ClusterRestarting(BookingEvent, frozen=True, kw_only=True):
    """The head was lost; the survivors start again under a new head, and nothing is billed until they are ready."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.restarting"
    lost_node_id: NodeId
    head_node_id: NodeId
    generation: int


class NodeReplaced(BookingEvent, frozen=True, kw_only=True):
    """A lost node's place was given to another node, which is starting."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.node_replaced"
    lost_node_id: NodeId
    lost_lease_id: Token
    lease: LeaseTerms


class ReplacementReady(BookingEvent, frozen=True, kw_only=True):
    """The replacement is a member of the cluster; `gap_ms` of its place were lost and are refunded."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.replacement_ready"
    lease: LeaseTerms
    gap_ms: Annotated[int, msgspec.Meta(ge=0)]


class ClusterDegraded(BookingEvent, frozen=True, kw_only=True):
    """A node was lost and no free node fits; the cluster runs on with fewer, and the next fitting node joins it."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.degraded"
    lost_node_id: NodeId
    refusal: Refusal


class LeaseEnded(BookingEvent, frozen=True, kw_only=True):
    """One node's part in a booking is over. `started_at` is 0 when billing had not begun."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.lease_ended"
    lease: LeaseTerms
    started_at: UnixMs
    ended_at: UnixMs
    reason: LeaseEndReason


class LeaseSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A lease with the time it ran."""

    lease: LeaseTerms
    started_at: UnixMs
    ended_at: UnixMs


class BookingEnded(BookingEvent, frozen=True, kw_only=True):
    """The booking is over. It names every lease once more, so that it can be settled from this event alone."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.ended"
    reason: EndReason
    spans: tuple[LeaseSpan, ...]
    refusal: Refusal | None = None


class LeaseCharged(BookingEvent, frozen=True, kw_only=True):
    """What one lease cost has left the escrow: 5 % fee, 95 % burned, coupons minted to its node."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.lease_charged"
    use: LeaseUse


class GapRefunded(BookingEvent, frozen=True, kw_only=True):
    """Seconds in which a place stood empty were paid back to the partner's wallet."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.gap_refunded"
    lease_id: Token
    gap_ms: int
    amount: Money


class BookingSettled(BookingEvent, frozen=True, kw_only=True):
    """The receipt: `escrowed = cost + refunded`, `cost = fee + burned`, and the escrow account is empty."""

    SUBJECT = "evt.booking.{partner}.{booking_id}.settled"
    escrowed: Money
    cost: Money
    fee: Money
    burned: Money
    refunded: Money
    uses: tuple[LeaseUse, ...]
    uses_left_out: Annotated[int, msgspec.Meta(ge=0, description="Uses beyond what a message can carry.")] = 0


class GetBooking(Query, frozen=True, kw_only=True):
    """Ask how a booking stands."""

    SUBJECT = "qry.booking.{partner}.status"
    partner: PartnerId
    booking_id: Token


class ListBookings(Query, frozen=True, kw_only=True):
    """Ask for a partner's newest bookings."""

    SUBJECT = "qry.booking.{partner}.list"
    partner: PartnerId
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20


class BookingStatus(Reply, frozen=True, kw_only=True):
    booking_id: Token
    state: str
    request: ClusterRequest
    max_total: Money
    head_node_id: NodeId | None = None
    node_ids: tuple[NodeId, ...] = ()
    ready_at: UnixMs = 0
    expires_at: UnixMs = 0
    detail: Text = ""
    order_digest: str = ""
    refusal: Refusal | None = None
    jobs: tuple[JobStatus, ...] = ()


class BookingList(Reply, frozen=True, kw_only=True):
    bookings: tuple[BookingStatus, ...]
