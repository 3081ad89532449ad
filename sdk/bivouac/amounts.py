"""Amounts as people type and read them; exact in both directions, and every doubt is refused with one sentence."""

import re
from decimal import ROUND_CEILING, Context, Decimal

from bivouac.errors import Invalid
from wire.values import AMOUNT_MAX, DECIMALS, Money

_PLAIN = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)
_EXACT = Context(prec=100)
DURATION_SECONDS_MIN = 60
DURATION_SECONDS_MAX = 366 * 86_400


def parse_usd(text: str) -> Money:
    """`12.50` (also `$12.50`, `12.50 USD`) as micro-USD, exactly; more than 6 decimals are refused, not rounded."""
    number = text.strip().removeprefix("$").removesuffix("USD").strip()
    value = _positive(number, f"{_shown(text)} is not an amount: write it like 12.50.")
    micros = _EXACT.scaleb(value, DECIMALS["USD"])
    if micros != micros.to_integral_value(context=_EXACT):
        raise Invalid(f"{_shown(text)} is finer than a micro-USD: give at most 6 decimals.")
    if micros > AMOUNT_MAX:
        raise Invalid(f"{_shown(text)} is too much: at most {show(Money(AMOUNT_MAX))} can be booked.")
    return Money(int(micros))


def parse_hours(text: str) -> int:
    """Hours like `0.1` or `24` as seconds; a part of a second is rounded up to a whole one."""
    hours = _positive(text.strip(), f"{_shown(text)} is not a number of hours: write it like 0.5 or 24.")
    seconds = _EXACT.multiply(hours, Decimal(3600)).to_integral_value(rounding=ROUND_CEILING, context=_EXACT)
    if seconds < DURATION_SECONDS_MIN:
        raise Invalid(f"{_shown(text)} hours are too short: a cluster is booked for at least a minute (0.017 hours).")
    if seconds > DURATION_SECONDS_MAX:
        raise Invalid(f"{_shown(text)} hours are too long: a cluster is booked for at most 366 days (8784 hours).")
    return int(seconds)


def show(money: Money) -> str:
    """All digits that matter, at least two decimals, and the asset: `12.50 USD`, `0.000417 USD`."""
    return f"{show_number(money)} {money.asset}"


def show_number(money: Money) -> str:
    decimals = DECIMALS[money.asset]
    whole, fraction = divmod(money.amount, 10**decimals)
    digits = f"{fraction:0{decimals}d}".rstrip("0").ljust(2, "0")
    return f"{whole:,}.{digits}"


def show_duration(milliseconds: int) -> str:
    """`1 d 2 h`, `1 h 30 min`, `12 min 5 s`, `8.25 s`: the two largest units, or seconds with their thousandths."""
    if milliseconds < 60_000:
        return f"{Decimal(milliseconds) / 1000:f} s"
    seconds = milliseconds // 1000
    parts = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _positive(number: str, otherwise: str) -> Decimal:
    if number.startswith("-") and _PLAIN.fullmatch(number[1:]):
        raise Invalid(f"{_shown(number)} is negative: give a number above zero.")
    if not _PLAIN.fullmatch(number):
        raise Invalid(otherwise)
    value = Decimal(number)
    if value == 0:
        raise Invalid("Zero is not enough: give a number above zero.")
    return value


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
