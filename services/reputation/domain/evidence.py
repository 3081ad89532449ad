"""What an event says about a node: how much good or bad evidence, in thousandths of one passed test job."""

from typing import Annotated

import msgspec

from wire.booking import LeaseEnded
from wire.node import NodeLost
from wire.probe import ProbeFailed, ProbePassed
from wire.values import Reason, Text

_HOUR_MS = 3_600_000
Millis = Annotated[int, msgspec.Meta(ge=0, le=10**6)]


class Evidence(msgspec.Struct, frozen=True):
    """One event's weight at the time it happened."""

    at: int
    because: Text
    good_millis: int = 0
    bad_millis: int = 0


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Slow to gain, fast to lose: a wrong answer weighs as much as twenty right ones, and a lease broken as ten."""

    probe_passed: Millis = 1_000
    probe_wrong: Millis = 20_000
    probe_unanswered: Millis = 5_000
    probe_slow: Millis = 2_000
    lease_hour: Millis = 250
    lease_most: Millis = 6_000
    lease_broken: Millis = 10_000
    lease_unstarted: Millis = 1_000
    lost_idle: Millis = 1_000


def of_probe_passed(probe: ProbePassed, weights: Weights) -> Evidence:
    return Evidence(probe.at, "passed a test job", good_millis=weights.probe_passed)


def of_probe_failed(probe: ProbeFailed, weights: Weights) -> Evidence:
    """A wrong and a malformed answer weigh alike (trust.md: fail closed); everything else counts as no answer."""
    bad = {
        Reason.wrong_answer: (weights.probe_wrong, "answered a test job wrongly"),
        Reason.malformed: (weights.probe_wrong, "answered a test job with something malformed"),
        Reason.too_slow: (weights.probe_slow, "answered a test job too slowly"),
    }
    millis, because = bad.get(probe.reason, (weights.probe_unanswered, "left a test job unanswered"))
    return Evidence(probe.at, f"{because} ({probe.kind})", bad_millis=millis)


def of_lease_ended(ended: LeaseEnded, weights: Weights) -> Evidence | None:
    """Hours served to the end are good, a node that vanished is bad; what the node did not decide says nothing."""
    if ended.reason in ("released", "expired") and ended.started_at:
        ran_ms = max(0, ended.ended_at - ended.started_at)
        good = min(weights.lease_hour * ran_ms // _HOUR_MS, weights.lease_most)
        return Evidence(ended.at, f"served a lease to its end ({ran_ms // 1000} s)", good_millis=good)
    if ended.reason == "node_lost":
        return Evidence(ended.at, "was lost during a lease", bad_millis=weights.lease_broken)
    if ended.reason == "start_failed":
        return Evidence(ended.at, "did not start the Ray node of a lease", bad_millis=weights.lease_unstarted)
    return None


def of_node_lost(lost: NodeLost, weights: Weights) -> Evidence | None:
    """Leases that broke with it have their own events; a node nobody had hired was only less available."""
    if lost.lease_ids or lost.reason == "banned":
        return None
    return Evidence(lost.at, "was lost without draining first", bad_millis=weights.lost_idle)
