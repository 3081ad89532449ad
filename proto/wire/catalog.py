"""Every message of the network, in one ordered table: who says it and who acts on it.

Permissions, subscriptions, the AsyncAPI document and the architecture tests all derive from this table.
"""

from typing import Literal

import msgspec

from wire import access, booking, job, ledger, market, node, probe, quote, reputation
from wire.message import Message

Party = Literal[
    "partner",
    "operator",
    "node",
    "pricing",
    "scheduler",
    "prober",
    "reputation",
    "ledger",
    "gate",
    "courier",
    "every_service",
]

SERVICES: tuple[Party, ...] = ("pricing", "scheduler", "prober", "reputation", "ledger", "gate", "courier")


class Entry(msgspec.Struct, frozen=True):
    """One message, who may publish it, and who acts on it (a query: who answers it)."""

    message: type[Message]
    said_by: tuple[Party, ...]
    heard_by: tuple[Party, ...]


CATALOG: tuple[Entry, ...] = (
    Entry(quote.GetQuote, ("partner",), ("pricing",)),
    Entry(market.EstimateWorkload, ("partner",), ("pricing",)),
    Entry(market.GetEarnings, ("partner", "operator"), ("pricing",)),
    Entry(market.MarketRate, ("partner",), ("pricing",)),
    Entry(booking.PlaceBooking, ("partner",), ("scheduler",)),
    Entry(booking.ReleaseBooking, ("partner",), ("scheduler",)),
    Entry(booking.BookingPlaced, ("scheduler",), ("pricing", "partner")),
    Entry(booking.BookingQuoted, ("pricing",), ("scheduler", "partner")),
    Entry(booking.QuoteDeclined, ("pricing",), ("scheduler", "partner")),
    Entry(booking.NodesHeld, ("scheduler",), ("pricing", "ledger", "partner")),
    Entry(booking.EscrowFunded, ("ledger",), ("scheduler", "partner")),
    Entry(booking.EscrowDeclined, ("ledger",), ("scheduler", "partner")),
    Entry(booking.BookingRefused, ("scheduler",), ("partner",)),
    Entry(booking.ClusterReady, ("scheduler",), ("pricing", "partner")),
    Entry(booking.ClusterRestarting, ("scheduler",), ("partner",)),
    Entry(booking.NodeReplaced, ("scheduler",), ("pricing", "partner")),
    Entry(booking.ReplacementReady, ("scheduler",), ("ledger", "partner")),
    Entry(booking.ClusterDegraded, ("scheduler",), ("partner",)),
    Entry(booking.LeaseEnded, ("scheduler",), ("pricing", "ledger", "reputation", "partner")),
    Entry(booking.BookingEnded, ("scheduler",), ("ledger", "courier", "partner")),
    Entry(booking.LeaseCharged, ("ledger",), ("partner",)),
    Entry(booking.GapRefunded, ("ledger",), ("partner",)),
    Entry(booking.BookingSettled, ("ledger",), ("scheduler", "partner")),
    Entry(booking.GetBooking, ("partner",), ("scheduler",)),
    Entry(booking.ListBookings, ("partner",), ("scheduler",)),
    Entry(job.SubmitJob, ("partner",), ("scheduler",)),
    Entry(job.CancelJob, ("partner",), ("scheduler",)),
    Entry(job.JobRefused, ("scheduler",), ("partner",)),
    Entry(job.JobAccepted, ("scheduler",), ("courier", "partner")),
    Entry(job.JobFilesDelivered, ("courier",), ("scheduler", "partner")),
    Entry(job.JobFilesMissing, ("courier",), ("scheduler", "partner")),
    Entry(job.JobStarted, ("scheduler",), ("partner",)),
    Entry(job.RunJob, ("scheduler",), ("node",)),
    Entry(job.StopJob, ("scheduler",), ("node",)),
    Entry(job.JobExited, ("node",), ("courier",)),
    Entry(job.JobResultDelivered, ("courier",), ("scheduler",)),
    Entry(job.JobFinished, ("scheduler",), ("partner",)),
    Entry(job.NodeJobLog, ("node",), ("courier",)),
    Entry(job.JobLog, ("courier",), ("partner",)),
    Entry(node.NodeJoined, ("node",), ("scheduler",)),
    Entry(node.NodeLeaving, ("node",), ("scheduler",)),
    Entry(node.RayNodeStarted, ("node",), ("scheduler",)),
    Entry(node.RayNodeFailed, ("node",), ("scheduler",)),
    Entry(node.RayNodeStopped, ("node",), ("scheduler",)),
    Entry(node.LeaseRejected, ("node",), ("scheduler",)),
    Entry(node.Heartbeat, ("node",), ("scheduler",)),
    Entry(node.NodeAdmitted, ("scheduler",), ("prober", "reputation", "pricing")),
    Entry(node.NodeLost, ("scheduler",), ("prober", "reputation", "pricing")),
    Entry(node.NodeWithdrawn, ("scheduler",), ("prober", "pricing")),
    Entry(node.StartRayNode, ("scheduler",), ("node",)),
    Entry(node.StopRayNode, ("scheduler",), ("node",)),
    Entry(node.GetFleet, ("partner", "operator"), ("scheduler",)),
    Entry(probe.Probe, ("prober",), ("node",)),
    Entry(probe.ProveGpu, ("prober",), ("node",)),
    Entry(probe.ProbePassed, ("prober",), ("reputation", "ledger")),
    Entry(probe.ProbeFailed, ("prober",), ("reputation", "ledger")),
    Entry(probe.ProbeUnmeasurable, ("prober",), ()),
    Entry(reputation.NodeScored, ("reputation",), ("scheduler",)),
    Entry(reputation.GetReputation, ("partner", "operator"), ("reputation",)),
    Entry(ledger.Deposit, ("operator",), ("ledger",)),
    Entry(ledger.DepositBooked, ("ledger",), ("partner",)),
    Entry(ledger.CloseEpoch, ("operator",), ("ledger",)),
    Entry(ledger.EpochClosed, ("ledger",), ("node", "partner", "operator")),
    Entry(ledger.EpochRefused, ("ledger",), ("operator",)),
    Entry(ledger.LedgerHeadPublished, ("ledger",), ("node", "partner", "operator")),
    Entry(ledger.GetBalance, ("partner", "operator"), ("ledger",)),
    Entry(ledger.GetReceipt, ("partner", "operator"), ("ledger",)),
    Entry(ledger.GetStatement, ("partner", "operator", "node"), ("ledger",)),
    Entry(ledger.GetAudit, ("operator",), ("ledger",)),
    Entry(access.RegisterPartner, ("operator",), ("gate",)),
    Entry(access.PartnerRegistered, ("gate",), ("operator",)),
    Entry(access.PartnerRefused, ("gate",), ("operator",)),
    Entry(access.BanIdentity, ("operator",), ("gate",)),
    Entry(access.IdentityBanned, ("gate",), ("scheduler", "operator")),
    Entry(access.MessageRefused, ("every_service",), ("partner", "operator")),
)

_BY_SHAPE: dict[tuple[str, ...], type[Message]] = {
    tuple("*" if token.startswith("{") else token for token in entry.message.SUBJECT.split(".")): entry.message
    for entry in CATALOG
}
_BY_ENDS: dict[tuple[str, str, str, int], type[Message]] = {
    (shape[0], shape[1], shape[-1], len(shape)): message for shape, message in _BY_SHAPE.items()
}


def message_on(subject: str) -> type[Message] | None:
    """The message that travels on `subject`, or None where no contract knows it."""
    tokens = subject.split(".")
    if len(tokens) < 3:
        return None
    return _BY_ENDS.get((tokens[0], tokens[1], tokens[-1], len(tokens)))
