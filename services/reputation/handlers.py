"""What reputation does on each message: weigh it, score the node, say so if the score moved."""

from libs.bus.service import Answer, Every, Handler
from services.reputation.domain import evidence as weighed
from services.reputation.domain.evidence import Evidence
from services.reputation.domain.score import Standing, absorbed, faded, interval
from services.reputation.store import Rows, Score
from wire.booking import LeaseEnded
from wire.message import Message, Query
from wire.node import NodeAdmitted, NodeLost
from wire.probe import ProbeFailed, ProbePassed
from wire.quote import Refused
from wire.reputation import GetReputation, NodeScored, ReputationGiven
from wire.values import Reason, Refusal

PRIOR = interval(Standing())


async def begin(admitted: NodeAdmitted, rows: Rows) -> None:
    score = await rows.open_score(admitted.node_id, PRIOR)
    await _publish([score], rows, "joined: nothing is known of it yet")


async def weigh_pass(probe: ProbePassed, rows: Rows) -> None:
    await _weigh(probe.node_id, weighed.of_probe_passed(probe, rows.settings.weights()), rows)


async def weigh_failure(probe: ProbeFailed, rows: Rows) -> None:
    await _weigh(probe.node_id, weighed.of_probe_failed(probe, rows.settings.weights()), rows)


async def weigh_lease(ended: LeaseEnded, rows: Rows) -> None:
    await _weigh(ended.lease.node_id, weighed.of_lease_ended(ended, rows.settings.weights()), rows)


async def weigh_loss(lost: NodeLost, rows: Rows) -> None:
    await _weigh(lost.node_id, weighed.of_node_lost(lost, rows.settings.weights()), rows)


async def fade(rows: Rows) -> None:
    """Evidence loses weight while nothing happens, so scores are renewed that nothing has renewed."""
    settings = rows.settings
    scores = await rows.oldest_scores(rows.now - settings.rescore_seconds * 1000, settings.rescore_nodes)
    await _publish(scores, rows, "time passed: what is known of it weighs less")


async def give_reputation(asked: GetReputation, rows: Rows) -> ReputationGiven | Refused:
    """The score as it was last made known."""
    score = await rows.score(asked.node_id)
    if score is None:
        detail = f"No node {asked.node_id} has ever been admitted."
        return Refused(refusal=Refusal(reason=Reason.unknown_node, detail=detail))
    known = score.interval
    rank = await rows.board.rank(asked.node_id, known.lower_millis) if rows.board else None
    return ReputationGiven(
        node_id=asked.node_id,
        lower_millis=known.lower_millis,
        mean_millis=known.mean_millis,
        upper_millis=known.upper_millis,
        rank=rank or 1 + await rows.higher_scores(known.lower_millis),
        moves=await rows.moves(asked.node_id),
    )


def refuse_query(subject: str, reason: str, detail: str) -> Refused:
    """What the bus answers to a query that is none."""
    return Refused(refusal=Refusal(reason=Reason(reason), detail=detail[:2000]))


async def _weigh(node_id: str, evidence: Evidence | None, rows: Rows) -> None:
    if evidence is None or not (evidence.good_millis or evidence.bad_millis):
        return
    score = await rows.open_score(node_id, PRIOR)
    await rows.add_evidence(node_id, evidence)
    standing = absorbed(score.standing, evidence, rows.settings.half_life_ms)
    await _publish([Score(node_id, standing, score.interval, score.fresh)], rows, evidence.because)


async def _publish(scores: list[Score], rows: Rows, because: str) -> None:
    """Record the scores as of now, and say those that differ from what was last said by a thousandth or more."""
    renewed = []
    for score in scores:
        standing = faded(score.standing, rows.now, rows.settings.half_life_ms)
        now = Score(score.node_id, standing, interval(standing))
        renewed.append(now)
        if score.fresh or now.interval != score.interval:
            rows.say(
                NodeScored(
                    node_id=score.node_id,
                    lower_millis=now.interval.lower_millis,
                    mean_millis=now.interval.mean_millis,
                    upper_millis=now.interval.upper_millis,
                    because=because,
                )
            )
    await rows.record_scores(renewed)


HANDLES: dict[type[Message], Handler] = {
    NodeAdmitted: begin,
    NodeLost: weigh_loss,
    ProbePassed: weigh_pass,
    ProbeFailed: weigh_failure,
    LeaseEnded: weigh_lease,
}
ANSWERS: dict[type[Query], Answer] = {GetReputation: give_reputation}
EVERY = [Every(seconds=30.0, task=fade, name="fade")]
