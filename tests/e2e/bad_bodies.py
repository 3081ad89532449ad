"""Bodies of commands that must be refused, each with the reason; one table for all senders."""

from __future__ import annotations

import json
from typing import Any

from wire.booking import PlaceBooking
from wire.message import BODY_BYTES_MAX, encode
from wire.values import BandwidthTier, ClusterRequest, usd

PARTNER = "acme"
MALFORMED, UNKNOWN_TYPE, OUT_OF_RANGE = "malformed", "unknown_type", "out_of_range"
_DEEP = 100_000


def order(booking_id: str, message_id: str, **changes: Any) -> PlaceBooking:
    """An order that the network could carry out but for what a test changes of it: it asks for a node too many."""
    request = {"nodes": 3, "model": "CPU", "duration_seconds": 3600, **changes.pop("request", {})}
    return PlaceBooking(
        **{
            "id": message_id,
            "at": 1,
            "partner": PARTNER,
            "booking_id": booking_id,
            "request": ClusterRequest(**request),
            "max_total": usd(10_000_000),
            **changes,
        }
    )


def plain(booking_id: str) -> dict[str, Any]:
    """That order as JSON would have it, to be spoiled."""
    spoiled: dict[str, Any] = json.loads(encode(order(booking_id, f"m-{booking_id}")))
    return spoiled


def spoiled(name: str, booking_id: str) -> bytes:
    """The body of the case of that name, for a booking of its own."""
    whole = plain(booking_id)
    if name in RAW:
        return bytes(RAW[name](booking_id) if callable(RAW[name]) else RAW[name])
    path, value = CHANGES[name][0], CHANGES[name][1]
    place = whole
    *way, last = path.split(".")
    for step in way:
        place = place[step]
    if value is REMOVED:
        del place[last]
        return json.dumps(whole).encode()
    place[last] = "@"
    # As it stands here, since no JSON library would write some of it.
    return json.dumps(whole).replace('"@"', value).encode()


def reason(name: str) -> str:
    if name in UNSEEN:
        return "no_capacity"
    return CHANGES[name][2] if name in CHANGES else MALFORMED


def names() -> list[str]:
    return [*RAW, *CHANGES]


def _with(booking_id: str, more: bytes) -> bytes:
    return json.dumps(plain(booking_id)).encode()[:-1] + more + b"}"


def _asking(**changes: Any) -> str:
    """One node is asked for, which there would be."""
    return json.dumps(plain("any")["request"] | {"nodes": 1} | changes)


REMOVED: Any = object()
UNSEEN = ("invalid UTF-8 in an unknown field", "no type")
"""These are orders. A newer sender may say more than this network knows, and that is not looked at; what the type
of a message is, its subject says as well."""
RAW: dict[str, Any] = {
    "nothing at all": b"",
    "half an object": lambda it: json.dumps(plain(it)).encode()[:-40],
    "null": b"null",
    "a list": b"[]",
    "a text": b'"place"',
    "not JSON": b"\x00\x01\x02\x1b[2J",
    "two objects": lambda it: json.dumps(plain(it)).encode() * 2,
    "invalid UTF-8 in a known field": lambda it: json.dumps(plain(it)).encode().replace(b'"CPU"', b'"C\xff\xfe"'),
    "invalid UTF-8 in an unknown field": lambda it: _with(it, b', "more": "\xc3\x28"'),
    "UTF-16": lambda it: json.dumps(plain(it)).encode("utf-16"),
    "lists in lists": b"[" * _DEEP,
    "objects in objects, in an unknown field": lambda it: _with(it, b', "more": ' + b'{"a":' * 40_000),
    "lists in lists, in an unknown field": lambda it: _with(it, b', "more": ' + b"[" * _DEEP + b"]" * _DEEP),
    "a null character in an unknown field": lambda it: _with(it, b', "more": "\\u0000"'),
    "a byte too long": lambda it: (whole := _with(it, b"")) + b" " * (BODY_BYTES_MAX + 1 - len(whole)),
    "a lone surrogate as id": lambda it: json.dumps({**plain(it), "id": "@"}).replace("@", "\\ud800").encode(),
}
CHANGES: dict[str, tuple[str, Any, str]] = {
    "unknown type": ("type", '"BookCluster"', UNKNOWN_TYPE),
    "another type": ("type", '"ReleaseBooking"', UNKNOWN_TYPE),
    "type that is a number": ("type", "7", MALFORMED),
    "no type": ("type", REMOVED, MALFORMED),
    "no id": ("id", REMOVED, MALFORMED),
    "empty id": ("id", '""', MALFORMED),
    "id with a newline": ("id", r'"m-1\n"', MALFORMED),
    "id with a header": ("id", r'"m-1\r\nNats-Rollup: all"', MALFORMED),
    "id with a null": ("id", r'"m-1\u0000"', MALFORMED),
    "id of 4,000 letters": ("id", f'"{"m" * 4000}"', MALFORMED),
    "id that is a number": ("id", "17", MALFORMED),
    "time before 1970": ("at", "-1", MALFORMED),
    "time beyond JSON's integers": ("at", str(2**53), MALFORMED),
    "no request": ("request", REMOVED, MALFORMED),
    "another partner": ("partner", '"umbra"', MALFORMED),
    "another booking": ("booking_id", '"bkg_of_somebody"', MALFORMED),
    "booking with a newline": ("booking_id", r'"bkg\n"', MALFORMED),
    "RENDER for USD": ("max_total.asset", '"RENDER"', OUT_OF_RANGE),
    "COUPON for USD": ("max_total.asset", '"COUPON"', OUT_OF_RANGE),
    "EUR": ("max_total.asset", '"EUR"', MALFORMED),
    "usd in small letters": ("max_total.asset", '"usd"', MALFORMED),
    "amount zero": ("max_total.amount", "0", OUT_OF_RANGE),
    "amount minus one": ("max_total.amount", "-1", MALFORMED),
    "amount with a fraction": ("max_total.amount", "1.5", MALFORMED),
    "amount in dollars as a text": ("max_total.amount", '"10.00"', MALFORMED),
    "amount as a text": ("max_total.amount", '"10000000"', MALFORMED),
    "amount true": ("max_total.amount", "true", MALFORMED),
    "amount null": ("max_total.amount", "null", MALFORMED),
    "amount 10^18": ("max_total.amount", str(10**18), MALFORMED),
    "amount 2^64": ("max_total.amount", str(2**64), MALFORMED),
    "amount of 4,000 digits": ("max_total.amount", "9" * 4000, MALFORMED),
    "amount 1e400": ("max_total.amount", "1e400", MALFORMED),
    "amount NaN": ("max_total.amount", "NaN", MALFORMED),
    "amount Infinity": ("max_total.amount", "Infinity", MALFORMED),
    "amount -Infinity": ("max_total.amount", "-Infinity", MALFORMED),
    "amount as a list": ("max_total", "[10, 20]", MALFORMED),
    "no nodes": ("request.nodes", "0", MALFORMED),
    "minus two nodes": ("request.nodes", "-2", MALFORMED),
    "half a node": ("request.nodes", "0.5", MALFORMED),
    "NaN nodes": ("request.nodes", "NaN", MALFORMED),
    "257 nodes": ("request.nodes", "257", OUT_OF_RANGE),
    "2^63 nodes": ("request.nodes", str(2**63), MALFORMED),
    "no time": ("request.duration_seconds", "0", MALFORMED),
    "59 seconds": ("request.duration_seconds", "59", MALFORMED),
    "ten years": ("request.duration_seconds", "315360000", MALFORMED),
    "hours as a float": ("request.duration_seconds", "3600.0001", MALFORMED),
    "no GPUs": ("request.gpus_per_node", "0", MALFORMED),
    "65 GPUs": ("request.gpus_per_node", "65", MALFORMED),
    "two GPUs of a CPU node": ("request.gpus_per_node", "2", OUT_OF_RANGE),
    "model with a newline": ("request.model", r'"CPU\n"', MALFORMED),
    "model that clears the screen": ("request.model", r'"\u001b[2JCPU"', MALFORMED),
    "model with a hang-up": ("request.model", r'"CPU\u0001\u0007"', MALFORMED),
    "model without letters": ("request.model", '""', MALFORMED),
    "model of 65 letters": ("request.model", f'"{"C" * 65}"', MALFORMED),
    "model that nobody makes": ("request.model", '"RTX 9999"', "unknown_model"),
    "unknown tier": ("request.bandwidth_tier", '"fast"', MALFORMED),
    "country of three letters": ("request.country", '"USA"', MALFORMED),
    "quote with a newline": ("quote_id", r'"q_1\n"', MALFORMED),
    "quote that was never given": ("quote_id", '"q_never"', "quote_expired"),
    "more than it may cost": ("max_total.amount", "1", "over_budget"),
    "more nodes than there are": ("request.nodes", "3", "no_capacity"),
    "a country where nobody stands": ("request", _asking(country="IS"), "no_capacity"),
    "a bandwidth that nobody has": ("request", _asking(bandwidth_tier=BandwidthTier.ultra), "no_capacity"),
    "a model that nobody offers": ("request", _asking(model="GTX 1660"), "no_capacity"),
}
