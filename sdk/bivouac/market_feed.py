"""Market rates from a CSV file: read as a whole before any is told, so that a wrong row tells nothing."""

import csv
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bivouac.amounts import parse_usd
from bivouac.errors import Invalid
from wire.market import MarketRate
from wire.values import BandwidthTier

_NEEDED = ("source", "model", "hourly_usd")
_COLUMNS = (*_NEEDED, "bandwidth_tier", "observed_at")
_ROWS_MAX = 10_000


def read(path: Path, partner: str, now: int) -> list[MarketRate]:
    """The rates of a file with the columns source, model, hourly_usd and, if known, bandwidth_tier and observed_at.

    `observed_at` is ISO 8601 or Unix milliseconds; without one it is `now`. A row has the id of what it says, so that
    telling the same file again says nothing new.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _rates(csv.DictReader(file), partner, now)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise Invalid(f"{path} is no CSV file: {error}.") from error


def _rates(rows: "csv.DictReader[str]", partner: str, now: int) -> list[MarketRate]:
    columns = [name.strip() for name in rows.fieldnames or ()]
    if not set(_NEEDED) <= set(columns) or not set(columns) <= set(_COLUMNS):
        raise Invalid(f"The first line must name the columns {', '.join(_COLUMNS)}; the last two may be left out.")
    rows.fieldnames = columns
    found = []
    for number, row in enumerate(_bounded(rows), start=2):
        try:
            found.append(_rate(row, partner, now))
        except (Invalid, ValueError, msgspec.ValidationError) as error:
            raise Invalid(f"Row {number}: {error}") from error
    return found


def _bounded(rows: Iterable[dict[str, str]]) -> Iterable[dict[str, str]]:
    for number, row in enumerate(rows):
        if number >= _ROWS_MAX:
            raise Invalid(f"The file has more than {_ROWS_MAX:,} rows.")
        yield row


def _rate(row: dict[str, str], partner: str, now: int) -> MarketRate:
    cells = {name: (row.get(name) or "").strip() for name in _COLUMNS}
    rate = MarketRate(
        partner=partner,
        source=cells["source"],
        model=cells["model"],
        hourly_micros=parse_usd(cells["hourly_usd"]).amount,
        bandwidth_tier=BandwidthTier(cells["bandwidth_tier"] or "low_1"),
        observed_at=_moment(cells["observed_at"], now),
    )
    said = msgspec.json.encode(rate)
    stamped = rate.stamped(f"rate_{hashlib.sha256(said).hexdigest()[:32]}", rate.observed_at)
    return msgspec.convert(msgspec.to_builtins(stamped), MarketRate)


def _moment(text: str, now: int) -> int:
    if not text:
        return now
    if text.isascii() and text.isdecimal():
        return int(text)
    seen = datetime.fromisoformat(text)
    return int((seen if seen.tzinfo else seen.replace(tzinfo=UTC)).timestamp() * 1000)
