"""Plots as SVG, written by hand: a page or a README shows them without any library."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 176, 40, 52
_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#975a16", "#4a5568", "#0987a0")
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points with a name; joined by a line, drawn as dots, or both."""

    name: str
    points: Sequence[Point]
    line: bool = True
    dots: bool = False
    colour: str = ""


@dataclass(frozen=True)
class Axis:
    """What an axis measures; `logarithmic` ones leave out what is not above zero."""

    label: str
    logarithmic: bool = False


@dataclass(frozen=True)
class Mark:
    """A point with words beside it (`y` given), or a vertical line with words on it."""

    x: float
    words: str
    y: float | None = None


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[Mark] = ()) -> str:
    """The plot as an SVG document; raises ValueError where there is nothing to plot."""
    xs = [point[0] for one in series for point in one.points] + [mark.x for mark in marks]
    ys = [point[1] for one in series for point in one.points]
    across, ticks_x = _scale(xs, x.logarithmic, _LEFT, WIDTH - _RIGHT)
    up, ticks_y = _scale(ys, y.logarithmic, HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#1a202c">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 22, title, size=15, weight="600"),
        *_grid(ticks_x, across, ticks_y, up),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 12, x.label, anchor="middle"),
        f'<g transform="rotate(-90 16 {HEIGHT / 2})">{_text(16, HEIGHT / 2, y.label, anchor="middle")}</g>',
    ]
    for number, one in enumerate(series):
        colour = one.colour or _COLOURS[number % len(_COLOURS)]
        parts += _drawn(one, colour, across, up)
        parts += _legend(number, one.name, colour)
    parts += [part for mark in marks for part in _marked(mark, across, up)]
    return "\n".join([*parts, "</svg>", ""])


def _scale(
    values: Sequence[float], logarithmic: bool, first: float, last: float
) -> tuple[Callable[[float], float], list[float]]:
    values = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    if not values:
        raise ValueError("There is nothing to plot.")
    least, most = min(values), max(values)
    if logarithmic:
        low, high = math.log10(least) - 0.05, math.log10(most) + 0.05
        ticks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
        ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
        return lambda value: first + (math.log10(value) - low) / (high - low) * (last - first), ticks
    margin = (most - least) * 0.05 or abs(most) * 0.1 or 1.0
    low, high = least - margin, most + margin
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 7)
    ticks = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return lambda value: first + (value - low) / (high - low) * (last - first), ticks


def _grid(
    ticks_x: list[float], across: Callable[[float], float], ticks_y: list[float], up: Callable[[float], float]
) -> list[str]:
    parts = []
    for tick in ticks_x:
        parts.append(_line(across(tick), _TOP, across(tick), HEIGHT - _BOTTOM, "#e2e8f0"))
        parts.append(_text(across(tick), HEIGHT - _BOTTOM + 16, _number(tick), anchor="middle"))
    for tick in ticks_y:
        parts.append(_line(_LEFT, up(tick), WIDTH - _RIGHT, up(tick), "#e2e8f0"))
        parts.append(_text(_LEFT - 6, up(tick) + 4, _number(tick), anchor="end"))
    return parts


def _drawn(one: Series, colour: str, across: Callable[[float], float], up: Callable[[float], float]) -> list[str]:
    placed = [(across(px), up(py)) for px, py in one.points]
    parts = []
    if one.line and placed:
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    if one.dots:
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in placed]
    return parts


def _legend(number: int, name: str, colour: str) -> list[str]:
    at = _TOP + 10 + 20 * number
    left = WIDTH - _RIGHT + 14
    return [f'<rect x="{left}" y="{at - 8}" width="14" height="4" fill="{colour}"/>', _text(left + 20, at - 2, name)]


def _marked(mark: Mark, across: Callable[[float], float], up: Callable[[float], float]) -> list[str]:
    left = across(mark.x)
    if mark.y is None:
        line = _line(left, _TOP, left, HEIGHT - _BOTTOM, "#c53030")
        return [line, _text(left + 4, _TOP + 12, mark.words, colour="#c53030")]
    ring = f'<circle cx="{left:.1f}" cy="{up(mark.y):.1f}" r="7" fill="none" stroke="#c53030" stroke-width="2"/>'
    return [ring, _text(left + 10, up(mark.y) - 8, mark.words, colour="#c53030")]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(
    x: float, y: float, words: str, anchor: str = "start", size: int = 12, weight: str = "400", colour: str = "#1a202c"
) -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(words)}</text>'


def _number(value: float) -> str:
    exact = Decimal(f"{value:.6g}")
    return f"{exact.normalize():,f}" if exact else "0"
