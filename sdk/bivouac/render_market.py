"""Estimates and earnings as people see them: tables, a plot of the frontier, and a page of earnings."""

import html
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bivouac.amounts import show, show_duration, show_number
from bivouac.chart import Axis, Mark, Series, chart
from bivouac.errors import BivouacError
from bivouac.render import moment
from wire.market import Earnings, ModelEarning, WorkloadEstimate, WorkloadPlan
from wire.values import Money

_HEADINGS = (
    "model",
    "list price USD",
    "RENDER",
    "break-even USD/h",
    "RENDER/h",
    "earned USD/h",
    "RENDER/h",
    "use",
    "earned USD/day",
    "RENDER/day",
    "power USD/day",
    "days to break even",
)


def estimate(found: WorkloadEstimate, deadline_seconds: int, everything: bool) -> RenderableType:
    """What tells most of the frontier, or every plan; `*` marks the frontier, `→` the cheapest in time."""
    shown = list(found.plans) if everything else _telling(found)
    table = Table(title="Plans, fastest first", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "nodes", "model", "batches", "one after the other", "time", "USD/h a node", "total USD"):
        table.add_column(column, justify="left" if column in ("", "model") else "right")
    for plan in shown:
        mark = "→" if plan.chosen else "*" if plan.frontier else ""
        gpus = f"{plan.gpus_per_node} × " if plan.gpus_per_node > 1 else ""
        table.add_row(
            mark,
            str(plan.nodes),
            gpus + plan.model,
            f"{plan.batches:,}",
            f"{plan.sequences:,}",
            show_duration(plan.seconds * 1000) + ("" if plan.in_time else ", late"),
            show_number(plan.hourly),
            show_number(plan.total),
            style="bold" if plan.chosen else "",
        )
    hidden = len(found.plans) - len(shown) + found.left_out
    words = [f"Deadline {show_duration(deadline_seconds * 1000)}.", *found.remarks]
    if hidden:
        words.append(f"{hidden} plans that are hardly cheaper, or beaten by one of these, are not shown: see --all.")
    return Group(table, Text(" ".join(words)))


def _telling(found: WorkloadEstimate) -> list[WorkloadPlan]:
    """Of the frontier what is a twentieth cheaper than the plan before it, the cheapest of all, and the chosen one."""
    frontier = [plan for plan in found.plans if plan.frontier or plan.chosen]
    shown: list[WorkloadPlan] = []
    for plan in frontier:
        if plan.chosen or plan is frontier[-1] or not shown or plan.total.amount * 20 <= shown[-1].total.amount * 19:
            shown.append(plan)
    return shown


def estimate_plot(found: WorkloadEstimate, deadline_seconds: int) -> str:
    """Cost over time, both logarithmic: every plan a dot, the frontier a line, the chosen one ringed."""
    if not found.plans:
        raise BivouacError("There is no plan to plot.")
    frontier = [_point(plan) for plan in found.plans if plan.frontier]
    models = list(dict.fromkeys(plan.model for plan in found.plans))
    series = [Series("frontier", frontier, colour="#a0aec0")]
    series += [
        Series(model, [_point(plan) for plan in found.plans if plan.model == model], line=False, dots=True)
        for model in models
    ]
    marks = [Mark(deadline_seconds / 3600, "deadline")]
    marks += [
        Mark(plan.seconds / 3600, f"{plan.nodes} × {plan.model}, {show(plan.total)}", plan.total.amount / 10**6)
        for plan in found.plans
        if plan.chosen
    ]
    axes = Axis("hours", logarithmic=True), Axis("total, USD", logarithmic=True)
    return chart("What the workload costs, and how long it takes", *axes, series, marks)


def earnings(given: Earnings) -> RenderableType:
    table = Table(title="Earnings of a GPU", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="right" if number else "left")
    for row in given.rows:
        table.add_row(*_cells(row))
    return Group(table, Text("\n".join(_notes(given))))


def earnings_page(given: Earnings) -> str:
    """One HTML file without anything from elsewhere."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in _HEADINGS)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row)) + "</tr>" for row in given.rows
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in _notes(given))
    return _PAGE.format(head=head, rows=rows, notes=notes, at=moment(given.at))


def save(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BivouacError(f"{path} cannot be written: {error.strerror}.") from error


def _cells(row: ModelEarning) -> Sequence[str]:
    return (
        row.model,
        show_number(row.list_price),
        _render(row.list_price_render),
        show_number(row.break_even_hourly),
        _render(row.break_even_hourly_render),
        show_number(row.earned_hourly),
        _render(row.earned_hourly_render),
        f"{row.use_permille / 10:.1f} %" + ("" if row.use_from == "pool" else " assumed"),
        show_number(row.earned_daily),
        _render(row.earned_daily_render),
        show_number(row.power_daily),
        "never" if row.break_even_days is None else f"{row.break_even_days:,}",
    )


def _notes(given: Earnings) -> list[str]:
    price = Money(given.render_price_micros)
    known = f"RENDER at {show(price)}." if price.amount else "No price of RENDER is known: give one with --render-usd."
    return [
        "Break-even: list price / 180 days / 24 h (RNP-004). Earned: 95 % of what an hour is sold at now, for a day "
        "times the use. Days to break even: list price / (earned − power) a day, at that use.",
        f"{known} As of {moment(given.at)}.",
    ]


def _render(money: Money | None) -> str:
    return "–" if money is None else f"{money.amount / 10**8:,.4f}"


def _point(plan: WorkloadPlan) -> tuple[float, float]:
    return plan.seconds / 3600, plan.total.amount / 10**6


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>What a GPU earns</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 76rem; padding: 0 1rem; line-height: 1.5; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }}
th, td {{ text-align: right; padding: .35rem .6rem; border-bottom: 1px solid #8884; white-space: nowrap; }}
th {{ white-space: normal; vertical-align: bottom; }}
th:first-child, td:first-child {{ text-align: left; font-weight: 600; }}
p {{ color: GrayText; }}
</style></head><body>
<h1>What a GPU earns</h1>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table></div>
{notes}
</body></html>
"""
