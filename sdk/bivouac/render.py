"""What the network answered, as tables for people; every number that is shown follows from others that are shown."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bivouac.amounts import show, show_duration, show_number
from wire.booking import BookingStatus
from wire.ledger import AuditReport, Balance, EpochClosed, NodeReward, Receipt, Statement
from wire.node import FleetView
from wire.quote import Quote
from wire.values import ClusterRequest, LeaseUse, Money

TOLD = ("bandwidth tier", "pool supply", "operating fee")
"""Lines of a quote that a person wants to see even where their factor is 1."""

Names = Mapping[str, str]
"""Node names by node id, from the fleet; an id without a name is shown by its ends."""

_STEERS = re.compile(r"\x1b(?!\[[0-9;]{0,32}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")


def terminal_safe(text: str) -> str:
    """Without what steers a terminal, save colours: a node's words must not move anybody's cursor."""
    return _STEERS.sub("", text)


def node(node_id: str, names: Names | None = None) -> str:
    return (names or {}).get(node_id) or f"{node_id[:6]}…{node_id[-4:]}"


def moment(unix_ms: int) -> str:
    if not unix_ms:
        return "–"
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def request(wanted: ClusterRequest) -> str:
    """`2 × RTX 4090 for 1 h, bandwidth low_1 or better, in US`."""
    gpus = f"{wanted.gpus_per_node} × " if wanted.gpus_per_node > 1 else ""
    where = f", in {wanted.country}" if wanted.country else ""
    nodes = "1 node" if wanted.nodes == 1 else f"{wanted.nodes} nodes"
    return (
        f"{nodes} of {gpus}{wanted.model} for {show_duration(wanted.duration_seconds * 1000)}, "
        f"bandwidth {wanted.bandwidth_tier.value} or better{where}"
    )


def quote(given: Quote) -> RenderableType:
    """Each line's amount is the one before, times its factor, floored; the last one is a node's hour.

    Lines that change nothing are named below the table, with their reasons left to --json.
    """
    table = _table(f"Quote {given.quote_id}", "line", "why", "× factor", "= USD per hour")
    neutral = [line.name for line in given.lines if line.numerator == line.denominator and line.name not in TOLD]
    for line in given.lines:
        if line.name in neutral:
            continue
        factor = f"{line.numerator:,}" + (f" / {line.denominator:,}" if line.denominator != 1 else "")
        _row(table, line.name, line.why, factor, show_number(line.amount))
    wanted = given.request
    nodes = "1 node" if wanted.nodes == 1 else f"{wanted.nodes} nodes"
    total = (
        f"At most {show_number(given.hourly)} × {nodes} × {wanted.duration_seconds:,} s / 3,600 "
        f"= {show(given.total)}; held until {moment(given.expires_at)}."
    )
    if given.ready_p50_ms is not None and given.ready_p90_ms is not None:
        odds = f"half of the last {given.ready_samples} clusters of this model were ready"
        within = f"{show_duration(given.ready_p50_ms)}, nine of ten within {show_duration(given.ready_p90_ms)}"
        total += f" Ready: {odds} within {within}."
    rest = [Text(f"These change nothing here: {', '.join(neutral)}.")] if neutral else []
    return Group(Text(f"{request(wanted)}."), table, *rest, Text(total))


def uses(title: str, leases: Sequence[LeaseUse], names: Names | None = None) -> Table:
    """Leases, each with the product its cost follows from."""
    table = _table(title, "node", "USD per hour × ms billed / 3,600,000", "= cost", "= fee", "+ burned", "coupons")
    for use in leases:
        _row(
            table,
            node(use.node_id, names),
            f"{show_number(use.hourly)} × {use.billed_ms:,}",
            show_number(use.cost),
            show_number(use.fee),
            show_number(use.burned),
            show_number(use.coupons),
        )
    return table


def receipt(given: Receipt, names: Names | None = None) -> RenderableType:
    table = uses(f"Receipt of {given.booking_id} ({given.state})", given.uses, names)
    table.add_section()
    coupons = Money(sum(use.coupons.amount for use in given.uses), "COUPON")
    numbers = [show_number(money) for money in (given.cost, given.fee, given.burned, coupons)]
    _row(table, "all", "", *numbers)
    if given.uses_left_out:
        table.caption = f"{given.uses_left_out:,} more leases are not shown"
    left = f" + {show_number(given.remaining)} still in escrow" if given.remaining.amount else ""
    parts = f"cost {show_number(given.cost)} + refunded {show_number(given.refunded)}{left}"
    return Group(table, Text(f"escrowed {show(given.escrowed)} = {parts}; 1 coupon = 1 USD burned."))


def statement(given: Statement, names: Names | None = None) -> RenderableType:
    """A node's pay: its leases, then the pools, then its shares of them."""
    reward = given.reward
    leases = uses(f"Statement of {node(reward.node_id, names)}, epoch {given.epoch}", given.uses, names)
    lines = [
        *pools(given),
        f"job reward = N_i / ΣN × compute pool = {show_number(reward.coupons)} / {show_number(given.all_coupons)} × "
        f"{show_number(given.compute_pool)} = {show(reward.job_reward)}",
        f"availability = w_i / Σw × availability pool = {show(reward.availability_reward)}, w = b⁴ × t³ × m² × c:",
        f"  {reward.weight} / {given.all_weights} × {show_number(given.availability_pool)}",
        f"paid in all: {show_number(reward.job_reward)} + {show_number(reward.availability_reward)} = "
        f"{show(_sum(reward))}; balance {show(given.balance)}",
    ]
    if given.uses_left_out:
        lines.append(f"{given.uses_left_out:,} more leases of this epoch are not shown.")
    return Group(leases, Text("\n".join(lines)))


def pools(given: Statement | EpochClosed) -> list[str]:
    """RNP-004: C_t = E_t × U_compute / (U_compute + U_render), floored; what nobody earned before is added to it."""
    compute = Money(given.compute_pool.amount - given.compute_carried_in.amount, "RENDER")
    set_aside = Money(given.availability_pool.amount - given.availability_carried_in.amount, "RENDER")
    burned, rendering = show_number(given.usd_compute), show_number(given.usd_render)
    return [
        f"C_t = E_t × U_compute / (U_compute + U_render) = {show_number(given.emission)} × {burned} / "
        f"({burned} + {rendering}) = {show(compute)}",
        f"compute pool = {show_number(compute)} + {show_number(given.compute_carried_in)} carried in = "
        f"{show(given.compute_pool)}",
        f"availability pool = {show_number(set_aside)} set aside + {show_number(given.availability_carried_in)} "
        f"carried in = {show(given.availability_pool)}",
    ]


def epoch(closed: EpochClosed, names: Names | None = None) -> RenderableType:
    """What an epoch paid to whom."""
    table = _table(
        f"Epoch {closed.epoch}, {moment(closed.started_at)} to {moment(closed.ended_at)}",
        "node",
        "coupons N_i",
        "= job reward",
        "weight w_i",
        "= availability",
        "RENDER in all",
    )
    for reward in closed.rewards:
        _row(
            table,
            node(reward.node_id, names),
            show_number(reward.coupons),
            show_number(reward.job_reward),
            reward.weight,
            show_number(reward.availability_reward),
            show_number(_sum(reward)),
        )
    table.add_section()
    jobs = Money(sum(reward.job_reward.amount for reward in closed.rewards), "RENDER")
    idle = Money(sum(reward.availability_reward.amount for reward in closed.rewards), "RENDER")
    both = Money(jobs.amount + idle.amount, "RENDER")
    sums = (
        show_number(closed.all_coupons),
        show_number(jobs),
        closed.all_weights,
        show_number(idle),
        show_number(both),
    )
    _row(table, "all", *sums)
    left_out = closed.nodes - len(closed.rewards)
    more = [f"{left_out:,} more nodes earned something: ask for their statements."] if left_out > 0 else []
    last = f"burned {show(closed.burned)}; carried over to the next epoch {show(closed.carried_over)}"
    return Group(table, Text("\n".join([*pools(closed), last, *more])))


def fleet(view: FleetView) -> RenderableType:
    table = _table(
        f"{len(view.nodes)} nodes", "name", "node", "GPUs", "model", "country", "bandwidth", "state", "trust"
    )
    for row in view.nodes:
        _row(
            table,
            row.name,
            row.node_id,
            str(row.gpus),
            row.model,
            row.country,
            row.bandwidth_tier,
            row.state,
            f"{row.reputation_millis / 1000:.3f}",
        )
    return table


def bookings(rows: Sequence[BookingStatus]) -> RenderableType:
    table = _table(f"{len(rows)} bookings", "booking", "state", "cluster", "at most", "ready at", "expires at")
    for row in rows:
        _row(
            table,
            row.booking_id,
            row.state,
            request(row.request),
            show(row.max_total),
            moment(row.ready_at),
            moment(row.expires_at),
        )
    return table


def booking(row: BookingStatus, names: Names | None = None) -> RenderableType:
    table = _table(f"Booking {row.booking_id}", "", "")
    table.show_header = False
    _row(table, "state", row.state + (f": {row.detail}" if row.detail else ""))
    _row(table, "cluster", request(row.request))
    _row(table, "at most", show(row.max_total))
    _row(table, "ready at", moment(row.ready_at))
    _row(table, "expires at", moment(row.expires_at))
    for node_id in row.node_ids:
        _row(table, "head" if node_id == row.head_node_id else "worker", node(node_id, names))
    for job in row.jobs:
        _row(table, f"job {job.job_id}", job.state + (f": {job.detail}" if job.detail else ""))
    if row.refusal is not None:
        _row(table, "refused", row.refusal.detail or row.refusal.reason.value)
        _row(table, "nearest", row.refusal.nearest or "–")
    return table


def balance(given: Balance) -> RenderableType:
    return Text(f"wallet {show(given.wallet)}, in escrow {show(given.in_escrow)}")


def audit(report: AuditReport) -> RenderableType:
    verdict = "passed" if report.passed else "FAILED"
    table = _table(
        f"Audit {verdict}: {report.transfers:,} transfers, head {report.head[:16]}…", "invariant", "holds", ""
    )
    for check in report.checks:
        _row(table, check.name, "yes" if check.holds else "NO", check.detail)
    return table


def _row(table: Table, *cells: str) -> None:
    """Cells as they are: what others wrote is no markup."""
    table.add_row(*(Text(terminal_safe(cell)) for cell in cells))


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(terminal_safe(title)), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    numeric = ("=", "+", "×", "USD", "coupons", "GPUs", "trust", "weight", "RENDER")
    for column in columns:
        table.add_column(column, justify="right" if column.startswith(numeric) else "left", overflow="fold")
    return table


def _sum(reward: NodeReward) -> Money:
    return Money(reward.job_reward.amount + reward.availability_reward.amount, "RENDER")
