"""What a cluster costs: the published tables reproduced, and the laws of a quote."""

import json
import math
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.domain.base import CATALOGUE, nearest_models
from services.pricing.domain.fee import divide, price_of_ask
from services.pricing.domain.lines import multiplied_out
from services.pricing.domain.quote import Terms, answer_order, id_for_order, quote
from services.pricing.domain.tiers import TIERS, classify
from wire.booking import BookingPlaced, BookingQuoted, QuoteDeclined
from wire.quote import Quote
from wire.values import AMOUNT_MAX, CPU_MODEL, BandwidthTier, ClusterRequest, Reason, Refusal, usd

VECTORS: dict[str, Any] = json.loads(
    Path(__file__).with_name("rnp_vectors.json").read_text(encoding="utf-8"), parse_float=Decimal
)
GPUS = VECTORS["gpu_catalogue_rnp004"]
PUBLISHED = {row.tier: row.published_name for row in TIERS}
TERMS = Terms("q_1", 1_000_000, 300_000)
MODELS = sorted(set(CATALOGUE) - {CPU_MODEL})

requests = st.builds(
    ClusterRequest,
    nodes=st.integers(1, 10_000),
    model=st.sampled_from(MODELS),
    duration_seconds=st.integers(60, 366 * 86_400),
    gpus_per_node=st.integers(1, 64),
    bandwidth_tier=st.sampled_from(BandwidthTier),
)


def priced(request: ClusterRequest) -> Quote:
    found = quote(request, TERMS)
    assert isinstance(found, Quote)
    return found


def changed(request: ClusterRequest, **fields: Any) -> ClusterRequest:
    return msgspec.structs.replace(request, **fields)


@pytest.mark.parametrize("row", GPUS, ids=lambda row: row["model"])
def test_a_published_model_costs_what_was_published(row: dict[str, Any]) -> None:
    card = CATALOGUE[row["model"]]
    assert card.hourly_micros == row["hourly_usd"] * 10**6
    assert not card.assumption
    # The table prints its newer cards with two decimals and its older ones with up to four.
    places = Decimal("0.01") if row["model"].startswith(("RTX 40", "RTX 30")) else Decimal("0.0001")
    printed = (Decimal(card.msrp_cents) / 100 / 180 / 24).quantize(places, ROUND_HALF_UP)
    assert printed == row["hourly_usd_published"]


def test_the_catalogue_holds_the_published_facts() -> None:
    assert len(GPUS) == 19
    for row in GPUS:
        card = CATALOGUE[row["model"]]
        assert (card.msrp_cents, card.gflops) == (row["msrp_usd"] * 100, row["tflops"] * 1000)
        assert card.memory_bandwidth_mb_s == row["memory_bandwidth_gb_s"] * 1000
        assert (card.tensor_cores, card.memory_mb, card.power_w) == (
            row["tensor_cores"],
            row["memory_mb"],
            row["power_w"],
        )


def test_a_price_without_a_published_list_price_says_what_it_assumes() -> None:
    multiples = VECTORS["enterprise_multiplier_rnp021"]
    assumed = {card.model: card for card in CATALOGUE.values() if card.assumption}
    assert set(assumed) == {*multiples, CPU_MODEL, "RTX 5090D", "RTX 4090D", "RTX 3080-12G", "RTX 3060M"}
    assert {*VECTORS["gpu_score_rnp019"], *multiples} <= set(CATALOGUE)
    for model, multiple in multiples.items():
        assert assumed[model].msrp_cents == multiple * CATALOGUE["RTX 4090"].msrp_cents
    line = priced(ClusterRequest(nodes=1, model="H200", duration_seconds=3600)).lines[0]
    assert assumed["H200"].assumption in line.why


@pytest.mark.parametrize("case", VECTORS["bandwidth_tier_cases"], ids=str)
def test_a_line_gets_its_tier(case: dict[str, Any]) -> None:
    tier = classify(float(case["down_mb_s"]), float(case["up_mb_s"]), float(case["ping_ms"]))
    assert (tier and PUBLISHED[tier]) == case["tier"]


def test_tiers_are_the_published_ones() -> None:
    table = [(row.published_name, row.mb_s_min, Decimal(row.permille - 1000) / 1000) for row in TIERS]
    assert table == [(row["tier"], row["min_mb_s"], row["surcharge"]) for row in VECTORS["bandwidth_tiers_rnp004"]]
    assert [row.tier for row in TIERS] == list(BandwidthTier)


@pytest.mark.parametrize("reading", [(math.nan, 50, 5), (50, math.nan, 5), (50, 50, math.nan), (50, 50, -1)])
def test_what_is_no_reading_reaches_no_tier(reading: tuple[float, float, float]) -> None:
    assert classify(*reading) is None


def test_an_ask_is_sold_so_that_the_node_gets_it() -> None:
    for row in VECTORS["ask_to_price_rnp021"]:
        price = price_of_ask(int(row["ask_usd_h"] * 10**6))
        assert price == row["price_usd_h"] * 10**6
        assert divide(price * row["gpu_hours"]) == (row["burn_usd"] * 10**6, row["fee_usd"] * 10**6)
        assert price * row["gpu_hours"] == row["total_usd"] * 10**6


@given(st.integers(0, 10**15))
def test_the_node_never_gets_less_than_its_ask(ask: int) -> None:
    burned, fee = divide(price_of_ask(ask))
    assert burned >= ask
    assert burned + fee == price_of_ask(ask)
    assert ask == 0 or divide(price_of_ask(ask) - 1)[0] < ask  # and the customer never pays more than that takes


@given(requests)
def test_the_lines_multiply_out(request: ClusterRequest) -> None:
    found = priced(request)
    amount = 1
    for line in found.lines:
        assert line.amount == usd(amount * line.numerator // line.denominator)
        amount = line.amount.amount
    assert found.hourly == usd(amount)
    assert multiplied_out(found.lines) == amount
    exact = amount * request.nodes * request.duration_seconds
    assert 0 <= found.total.amount * 3600 - exact < 3600
    assert 0 < found.total.amount <= AMOUNT_MAX


@given(requests)
def test_a_quote_passes_its_own_contract(request: ClusterRequest) -> None:
    found = priced(request)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Quote) == found


@given(requests, st.integers(0, 100), st.integers(0, 10**6), st.sampled_from(BandwidthTier))
def test_more_never_costs_less(request: ClusterRequest, nodes: int, seconds: int, tier: BandwidthTier) -> None:
    total, order = priced(request).total.amount, list(BandwidthTier)
    assert priced(changed(request, nodes=request.nodes + nodes)).total.amount >= total
    assert priced(changed(request, duration_seconds=request.duration_seconds + seconds)).total.amount >= total
    assert priced(changed(request, gpus_per_node=request.gpus_per_node + 1)).total.amount > total
    dearer = priced(changed(request, bandwidth_tier=tier)).total.amount >= total
    assert dearer or order.index(tier) < order.index(request.bandwidth_tier)


@given(requests, st.data())
def test_no_use_within_the_booking_costs_more_than_its_total(request: ClusterRequest, data: st.DataObject) -> None:
    found = priced(request)
    longest = request.duration_seconds * 1000
    billed = data.draw(st.lists(st.integers(0, longest), max_size=min(request.nodes, 20)))
    assert sum(found.hourly.amount * ms // 3_600_000 for ms in billed) <= found.total.amount


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("rtx4090", "RTX 4090"), ("NVIDIA GeForce RTX 3080 Ti", "RTX 3080 Ti"), ("Tesla T4", "T4"), ("cpu", "CPU")],
)
def test_an_unknown_model_is_answered_with_the_nearest(asked: str, nearest: str) -> None:
    refusal = quote(ClusterRequest(nodes=1, model=asked, duration_seconds=60), TERMS)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.unknown_model
    assert refusal.nearest.split(", ")[0] == nearest
    assert all(model in refusal.detail for model in CATALOGUE)


def test_where_no_model_is_near_none_is_named() -> None:
    assert nearest_models("zzzzzz") == []


def test_a_node_without_a_gpu_is_priced_whole() -> None:
    request = ClusterRequest(nodes=1, model=CPU_MODEL, duration_seconds=3600)
    assert priced(request).hourly == usd(92_361)
    refusal = quote(changed(request, gpus_per_node=2), TERMS)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.out_of_range


REQUEST = ClusterRequest(nodes=2, model="RTX 4090", duration_seconds=7200)
GIVEN = msgspec.structs.replace(priced(REQUEST), hourly=usd(7), total=usd(28))  # a price of its own, as of then
UNKNOWN = Refusal(reason=Reason.unknown_model)


def order(**fields: Any) -> BookingPlaced:
    return BookingPlaced(
        **{
            "id": "acme/1/placed",
            "at": TERMS.at + TERMS.valid_ms - 1,
            "partner": "acme",
            "booking_id": "b",
            "request": REQUEST,
            "max_total": usd(10**9),
            **fields,
        }
    )


def test_an_order_without_a_quote_gets_the_price_of_now() -> None:
    fresh = priced(REQUEST)
    answer = answer_order(order(), None, fresh)
    assert isinstance(answer, BookingQuoted)
    assert answer.quote == fresh
    assert id_for_order("a") == id_for_order("a") != id_for_order("b")


@pytest.mark.parametrize("fresh", [priced(REQUEST), UNKNOWN])
def test_a_quote_is_honoured_to_its_last_millisecond(fresh: Quote | Refusal) -> None:
    answer = answer_order(order(quote_id="q_1"), GIVEN, fresh)
    assert isinstance(answer, BookingQuoted)
    assert answer.quote == GIVEN


@pytest.mark.parametrize(
    ("fields", "kept", "reason"),
    [
        ({"quote_id": "q_1", "at": TERMS.at + TERMS.valid_ms}, GIVEN, Reason.quote_expired),
        ({"quote_id": "q_1"}, None, Reason.quote_expired),
        ({"quote_id": "q_1", "request": changed(REQUEST, nodes=3)}, GIVEN, Reason.quote_mismatch),
    ],
)
def test_a_quote_that_does_not_hold_is_declined(fields: dict[str, Any], kept: Quote | None, reason: Reason) -> None:
    placed = order(**fields)
    fresh = priced(placed.request)
    answer = answer_order(placed, kept, fresh)
    assert isinstance(answer, QuoteDeclined)
    assert answer.refusal.reason is reason
    total = fresh.total.amount
    assert f"{total // 10**6}.{total % 10**6:06d} USD" in answer.refusal.nearest
    if reason is Reason.quote_mismatch:
        assert "nodes 2 there and 3 here" in answer.refusal.detail


def test_an_order_for_an_unknown_model_is_declined() -> None:
    answer = answer_order(order(quote_id="q_1"), None, UNKNOWN)
    assert isinstance(answer, QuoteDeclined)
    assert answer.refusal == UNKNOWN
