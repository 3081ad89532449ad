"""A second account for those whom the callout lets in from outside, with a border that lets named subjects through."""

from typing import Any

import msgspec

OUTSIDE = "OUT"
OUTSIDE_CONNECTIONS = "sys.outside.connz"  # as CONNECTIONS, of that account

SUBSCRIPTIONS_MAX = 500
"""Of one connection. Limits in a user's token are not looked at where accounts come from a configuration (2.15.1)."""


class Border(msgspec.Struct, frozen=True):
    """`exports` and `imports` of the network's account and of the outsiders', as in the server's configuration."""

    inside: dict[str, list[dict[str, Any]]]
    outside: dict[str, list[dict[str, Any]]]


def with_outsiders(
    settings: dict[str, Any], border: Border, system: str, network: str, connected: str, disconnected: str
) -> dict[str, Any]:
    """The configuration with that account, whose comings and goings the network account hears beside its own."""
    accounts: dict[str, Any] = settings["accounts"]
    watched = [
        _from(system, "stream", f"$SYS.ACCOUNT.{OUTSIDE}.CONNECT", connected),
        _from(system, "stream", f"$SYS.ACCOUNT.{OUTSIDE}.DISCONNECT", disconnected),
        _from(system, "service", f"$SYS.REQ.ACCOUNT.{OUTSIDE}.CONNZ", OUTSIDE_CONNECTIONS),
    ]
    inside = accounts[network]
    return {
        **settings,
        "accounts": {
            **accounts,
            network: {
                **inside,
                "exports": [*inside.get("exports", []), *border.inside["exports"]],
                "imports": [*inside.get("imports", []), *border.inside["imports"], *watched],
            },
            OUTSIDE: {**border.outside, "limits": {"max_subs": SUBSCRIPTIONS_MAX}},
        },
    }


def _from(account: str, kind: str, subject: str, to: str) -> dict[str, Any]:
    return {kind: {"account": account, "subject": subject}, "to": to}
