"""Every event as one line for people; an event that is new to this client is shown by its subject."""

from bivouac.amounts import show, show_duration
from bivouac.render import Names, node, request, terminal_safe
from wire import access, booking, job, ledger, market, probe, reputation
from wire import node as fleet
from wire.message import Message
from wire.values import Money, Refusal


def line(message: Message, names: Names | None = None) -> str:
    """`bkg_7 · cluster ready: head lima, worker oslo`."""
    names = names or {}
    told: str | None
    match message:
        case booking.BookingEvent():
            told = _money(message, names) or _cluster(message, names)
        case job.JobEvent() | job.JobLog():
            told = _job(message, names)
        case _:
            told = _network(message, names)
    return terminal_safe(told or message.subject())


def refusal(said: Refusal) -> str:
    """The reason as a word, the sentence, and the nearest thing that would work."""
    words = said.reason.value.replace("_", " ")
    detail = f": {said.detail}" if said.detail else "."
    return f"{words}{detail}" + (f" Nearest: {said.nearest}" if said.nearest else "")


def _cluster(message: booking.BookingEvent, names: Names) -> str | None:
    told: str
    match message:
        case booking.BookingPlaced():
            told = f"ordered: {request(message.request)}, at most {show(message.max_total)}"
        case booking.NodesHeld():
            nodes = ", ".join(node(lease.node_id, names) for lease in message.leases)
            told = f"nodes held, all or none: {nodes}"
        case booking.BookingRefused() | booking.QuoteDeclined() | booking.EscrowDeclined():
            told = f"refused, {refusal(message.refusal)}"
        case booking.ClusterReady():
            workers = [node(each, names) for each in message.node_ids if each != message.head_node_id]
            told = f"cluster ready, billing begins: head {node(message.head_node_id, names)}"
            told += f", workers {', '.join(workers)}" if workers else ""
        case booking.ClusterRestarting():
            told = (
                f"head {node(message.lost_node_id, names)} lost, restarting under {node(message.head_node_id, names)}"
            )
        case booking.NodeReplaced():
            lease = message.lease
            told = f"{node(message.lost_node_id, names)} lost, {node(lease.node_id, names)} takes its place"
        case booking.ReplacementReady():
            told = f"{node(message.lease.node_id, names)} is in the cluster after {show_duration(message.gap_ms)}"
        case booking.ClusterDegraded():
            told = f"{node(message.lost_node_id, names)} lost and nobody fits yet, {refusal(message.refusal)}"
        case booking.LeaseEnded():
            ran = show_duration(message.ended_at - message.started_at) if message.started_at else "nothing"
            told = f"lease of {node(message.lease.node_id, names)} ended ({message.reason}), billed {ran}"
        case booking.BookingEnded():
            told = f"ended: {message.reason}" + (f", {refusal(message.refusal)}" if message.refusal else "")
        case _:
            return None
    return f"{message.booking_id} · {told}"


def _money(message: booking.BookingEvent, names: Names) -> str | None:
    told: str
    match message:
        case booking.BookingQuoted():
            told = f"quoted {show(message.quote.hourly)} per node and hour, at most {show(message.quote.total)}"
        case booking.EscrowFunded():
            told = f"{show(message.amount)} in escrow, {show(message.wallet_left)} left in the wallet"
        case booking.LeaseCharged():
            use = message.use
            told = f"{node(use.node_id, names)} ran {show_duration(use.billed_ms)}: {show(use.cost)}"
            told += f" = fee {show(use.fee)} + burned {show(use.burned)}"
        case booking.GapRefunded():
            told = f"{show(message.amount)} refunded for {show_duration(message.gap_ms)} without a node"
        case booking.BookingSettled():
            told = f"settled: cost {show(message.cost)}, {show(message.refunded)} refunded"
        case _:
            return None
    return f"{message.booking_id} · {told}"


def _job(message: job.JobEvent | job.JobLog, names: Names) -> str | None:
    told: str
    match message:
        case job.JobRefused() | job.JobFilesMissing():
            told = f"refused, {refusal(message.refusal)}"
        case job.JobAccepted():
            again = f", attempt {message.attempt}" if message.attempt > 1 else ""
            told = f"accepted for {node(message.node_id, names)}, {message.files.size:,} bytes of files{again}"
        case job.JobFilesDelivered():
            told = f"files are with {node(message.node_id, names)}"
        case job.JobStarted():
            told = f"started on {node(message.node_id, names)}"
        case job.JobResultDelivered():
            told = "result brought back"
        case job.JobFinished():
            told = message.status + (f": {message.detail}" if message.detail else "")
        case job.JobLog():
            told = " ⏎ ".join(message.lines)
        case _:
            return None
    return f"{message.booking_id} · {message.job_id} · {told}"


def _network(message: Message, names: Names) -> str | None:
    match message:
        case fleet.NodeJoined() | fleet.NodeAdmitted():
            return f"{message.spec.name} {message.verb()}: {message.spec.gpus} × {message.spec.model}"
        case fleet.NodeLost():
            return f"{node(message.node_id, names)} lost: {message.reason}"
        case fleet.NodeLeaving() | fleet.NodeWithdrawn() | fleet.RayNodeStopped():
            return f"{node(message.node_id, names)} {message.verb().replace('_', ' ')}"
        case fleet.RayNodeStarted():
            return f"{node(message.node_id, names)} started Ray as {message.role} in {show_duration(message.start_ms)}"
        case fleet.RayNodeFailed() | fleet.LeaseRejected():
            return f"{node(message.node_id, names)} {message.verb().replace('_', ' ')}: {message.detail}"
        case job.JobExited():
            return f"{node(message.node_id, names)} says {message.job_id} {message.status}"
        case probe.ProbePassed():
            return f"{node(message.node_id, names)} passed its test job, score {message.score_millionths / 10**6:f}"
        case probe.ProbeFailed():
            return f"{node(message.node_id, names)} failed its test job: {message.detail}"
        case probe.ProbeUnmeasurable():
            return f"{node(message.node_id, names)} could not be measured: {message.detail}"
        case reputation.NodeScored():
            trust = f"{message.lower_millis / 1000:.3f}"
            return f"{node(message.node_id, names)} is trusted {trust} at least: {message.because}"
        case ledger.DepositBooked():
            return f"{message.partner} deposited {show(message.amount)}, wallet {show(message.wallet)}"
        case ledger.EpochClosed():
            return f"epoch {message.epoch} closed: {show(message.compute_pool)} for {len(message.rewards)} nodes"
        case ledger.EpochRefused() | access.PartnerRefused():
            return f"{message.subject()}: {refusal(message.refusal)}"
        case ledger.LedgerHeadPublished():
            return f"ledger at {message.height:,} transfers, head {message.head[:16]}…"
        case market.MarketRate():
            rate = f"{show(Money(message.hourly_micros))} a GPU-hour"
            return f"{message.partner} saw {message.source} ask {rate} for {message.model}"
        case access.PartnerRegistered():
            return f"{message.partner} registered with {node(message.public_key)}"
        case access.IdentityBanned():
            return f"{node(message.public_key, names)} banned: {message.reason.value}"
        case access.MessageRefused():
            return f"message of {message.identity} on {message.subject_refused}: {refusal(message.refusal)}"
    return None
