"""Peak hours: the part of the booked time that falls into the evening where the nodes stand costs more.

Only a request that names a country has a local time. A country of several zones has the one in which most of its people
live; all are standard time, without daylight saving. The setting utc_offset_table stands over the table.
"""

from services.pricing.domain.factors.factor import Asked, Factor, percent
from services.pricing.domain.policy import parsed

_DAY, _HOUR = 86_400, 3600
UTC_OFFSET_MINUTES = {
    **dict.fromkeys(("GB", "IE", "PT", "IS", "MA", "GH"), 0),
    **dict.fromkeys(("DE", "FR", "ES", "IT", "NL", "BE", "LU", "CH", "AT", "PL", "CZ", "SK", "HU", "SI", "HR"), 60),
    **dict.fromkeys(("DK", "NO", "SE", "NG"), 60),
    **dict.fromkeys(("FI", "EE", "LV", "LT", "RO", "BG", "GR", "UA", "IL", "EG", "ZA"), 120),
    **dict.fromkeys(("TR", "SA", "KE", "RU"), 180),
    **dict.fromkeys(("AE", "GE", "AM"), 240),
    "PK": 300,
    "KZ": 300,
    "IN": 330,
    "BD": 360,
    **dict.fromkeys(("TH", "VN", "ID"), 420),
    **dict.fromkeys(("CN", "HK", "TW", "SG", "MY", "PH"), 480),
    **dict.fromkeys(("JP", "KR"), 540),
    "AU": 600,
    "NZ": 720,
    **dict.fromkeys(("US", "CA", "PE", "CO"), -300),
    "MX": -360,
    **dict.fromkeys(("CL", "VE", "BO"), -240),
    **dict.fromkeys(("BR", "AR", "UY"), -180),
}


def factor(asked: Asked) -> Factor:
    """`1000 + (peak_price − 1000) × seconds in peak hours / seconds booked`, exactly."""
    country, policy = asked.request.country, asked.policy
    if country is None:
        return Factor("peak hours", "Nodes anywhere have no local time.")
    offset = {**UTC_OFFSET_MINUTES, **parsed(policy.utc_offset_table, -14 * 60, 14 * 60)}.get(country)
    if offset is None:
        return Factor("peak hours", f"The local time of {country} is not known (utc_offset_table).")
    booked = asked.request.duration_seconds
    begin = asked.at // 1000 + offset * 60
    peak = overlap(begin, begin + booked, policy.peak_first_hour * _HOUR, policy.peak_hours * _HOUR)
    zone = f"UTC{'-' if offset < 0 else '+'}{abs(offset) // 60}:{abs(offset) % 60:02d}"
    last = (policy.peak_first_hour + policy.peak_hours) % 24
    why = (
        f"{peak} of {booked} s booked from now fall into {policy.peak_first_hour}:00 to {last}:00 at {zone}, "
        f"{percent(policy.peak_price)} then."
    )
    return Factor("peak hours", why, 1000 * booked + (policy.peak_price - 1000) * peak, 1000 * booked)


def overlap(begin: int, end: int, first: int, length: int) -> int:
    """Seconds of [begin, end) in the daily window of `length` seconds from `first` on; the window may pass midnight."""

    def until(moment: int) -> int:
        days, rest = divmod(moment - first, _DAY)
        return days * length + min(rest, length)

    return until(end) - until(begin)
