"""Each factor of a price: what it multiplies by, that it is bounded, and that the lines still multiply out."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.domain.base import CATALOGUE, with_added
from services.pricing.domain.factors.peak_hours import UTC_OFFSET_MINUTES, overlap
from services.pricing.domain.fee import divide, price_of_ask
from services.pricing.domain.policy import MINIMA, Policy, parsed
from services.pricing.domain.quote import Terms, quote
from services.pricing.domain.standing import SURGE_WHOLE, Asks, Rate, Ready, Standing
from services.pricing.domain.tariff import Tariff
from wire.quote import Quote
from wire.values import CPU_MODEL, BandwidthTier, ClusterRequest, QuoteLine, Reason, Refusal, usd

AT = 1_764_000_000_000
ALL = ",".join(sorted(MINIMA))
MODELS = sorted(set(CATALOGUE) - {CPU_MODEL})
PLAIN = ClusterRequest(nodes=1, model="RTX 4090", duration_seconds=3600)

requests = st.builds(
    ClusterRequest,
    nodes=st.integers(1, 10_000),
    model=st.sampled_from(MODELS),
    duration_seconds=st.integers(60, 366 * 86_400),
    gpus_per_node=st.integers(1, 64),
    bandwidth_tier=st.sampled_from(BandwidthTier),
    country=st.sampled_from([None, *UTC_OFFSET_MINUTES, "ZZ"]),
    cpu_model=st.sampled_from([None, "EPYC 7763", "Xeon", "none such"]),
    cpu_mhz_min=st.integers(0, 20_000),
    cpu_cores_min=st.integers(0, 4096),
    memory_mb_min=st.integers(0, 10**9),
    disk=st.sampled_from(["any", "ssd", "nvme"]),
    reputation_millis_min=st.integers(0, 1000),
)
rates = st.builds(
    Rate,
    partner=st.sampled_from(["a", "b", "c"]),
    source=st.sampled_from(["x", "y"]),
    tier=st.sampled_from(BandwidthTier),
    hourly_micros=st.integers(1, 10**12),
    observed_at=st.integers(AT - 10**8, AT + 10**6),
    before_micros=st.integers(0, 10**9),
    before_at=st.integers(0, AT),
)
standings = st.builds(
    Standing,
    total=st.integers(0, 1000),
    used=st.integers(0, 1000),
    surge=st.integers(SURGE_WHOLE, 3 * SURGE_WHOLE // 2),
    asks=st.one_of(st.just(Asks()), st.integers(0, 10**9).map(lambda ask: Asks((ask,), (5,)))),
    rates=st.lists(rates, max_size=6).map(tuple),
)


def priced(
    request: ClusterRequest = PLAIN, at: int = AT, standing: Standing | None = None, **settings: Any
) -> dict[str, QuoteLine]:
    found = given_quote(request, at, standing, **settings)
    assert isinstance(found, Quote)
    return {line.name: line for line in found.lines}


def given_quote(
    request: ClusterRequest = PLAIN, at: int = AT, standing: Standing | None = None, **settings: Any
) -> Quote | Refusal:
    policy = Policy(**{"minima_matched": ALL, **settings})
    return quote(request, Terms("q_1", at, 300_000, standing or Standing()), Tariff(policy=policy))


def plain(**fields: Any) -> ClusterRequest:
    return msgspec.structs.replace(PLAIN, **fields)


def times(line: QuoteLine) -> tuple[int, int]:
    return line.numerator, line.denominator


@given(requests, standings)
def test_all_factors_together_multiply_out(request: ClusterRequest, standing: Standing) -> None:
    found = given_quote(request, standing=standing, location_table="US=1200,DE=900")
    if isinstance(found, Refusal):
        assert found.reason is Reason.out_of_range
        return
    amount = 1
    for line in found.lines:
        amount = amount * line.numerator // line.denominator
        assert line.amount == usd(amount)
        assert line.why
    assert found.hourly == usd(amount)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Quote) == found  # within its contract
    floor = price_of_ask(standing.asks.of_cheapest(request.nodes))
    assert found.hourly.amount >= floor * request.gpus_per_node


def test_every_factor_has_its_line_and_a_plain_request_in_an_idle_pool_pays_the_base_price() -> None:
    lines = priced()
    assert list(lines) == [
        "base price",
        "bandwidth tier",
        "market",
        "VRAM",
        "memory bandwidth",
        "tensor cores",
        "CPU model",
        "CPU clock",
        "CPU cores",
        "RAM",
        "disk kind",
        "location",
        "peak hours",
        "reputation",
        "pool supply",
        "market ceiling",
        "cost floor",
        "GPUs per node",
        "operating fee",
    ]
    assert lines["operating fee"].amount == usd(370_139)


@pytest.mark.parametrize(
    ("fields", "name", "factor"),
    [
        ({"cpu_model": "AMD EPYC"}, "CPU model", (1050, 1000)),
        ({"cpu_model": "Ryzen"}, "CPU model", (1000, 1000)),
        ({"cpu_mhz_min": 3000}, "CPU clock", (1000, 1000)),
        ({"cpu_mhz_min": 3001}, "CPU clock", (1010, 1000)),
        ({"cpu_mhz_min": 20_000}, "CPU clock", (1250, 1000)),
        ({"cpu_cores_min": 8}, "CPU cores", (1000, 1000)),
        ({"cpu_cores_min": 10}, "CPU cores", (1020, 1000)),
        ({"cpu_cores_min": 16, "gpus_per_node": 2}, "CPU cores", (1000, 1000)),
        ({"memory_mb_min": 32 * 1024 + 1}, "RAM", (1002, 1000)),
        ({"memory_mb_min": 10**9}, "RAM", (1250, 1000)),
        ({"disk": "ssd"}, "disk kind", (1020, 1000)),
        ({"disk": "nvme"}, "disk kind", (1050, 1000)),
        ({"reputation_millis_min": 900}, "reputation", (1_090_000, 1_000_000)),
        ({"country": "US"}, "location", (1100, 1000)),
        ({"country": "FR"}, "location", (1000, 1000)),
    ],
)
def test_what_is_asked_for_has_its_stated_price(fields: Any, name: str, factor: tuple[int, int]) -> None:
    line = priced(plain(**fields), location_table="US=1100")[name]
    assert times(line) == factor


@pytest.mark.parametrize(
    ("fields", "nearest"),
    [
        ({"vram_mb_min": 24_577}, "RTX 5090"),
        ({"memory_bandwidth_mb_s_min": 1_100_000}, "RTX 5090"),
        ({"tensor_cores_min": 10**6}, ""),
    ],
)
def test_what_no_card_of_the_model_has_is_refused_with_the_cheapest_that_has(fields: Any, nearest: str) -> None:
    refusal = given_quote(plain(**fields))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.out_of_range
    assert refusal.nearest == (f"the model {nearest}" if nearest else "")


def test_what_every_card_of_the_model_has_costs_nothing_more() -> None:
    wanted = plain(vram_mb_min=24_576, memory_bandwidth_mb_s_min=1_008_000, tensor_cores_min=512)
    assert priced(wanted)["operating fee"].amount == usd(370_139)


def test_what_matching_does_not_see_to_is_not_sold() -> None:
    refusal = given_quote(plain(cpu_cores_min=4, disk="ssd"), minima_matched="disk")
    assert isinstance(refusal, Refusal)
    assert "cpu_cores_min" in refusal.detail and "disk" not in refusal.detail
    assert isinstance(given_quote(plain(disk="ssd"), minima_matched="disk"), Quote)
    with pytest.raises(ValueError, match="cpu_core_min"):
        Policy(minima_matched="cpu_core_min")


@given(st.integers(0, 10**9), st.integers(0, 200_000), st.integers(0, 23), st.integers(0, 24))
def test_peak_seconds_are_counted_as_a_clock_does(begin: int, length: int, first: int, hours: int) -> None:
    found = overlap(begin, begin + length, first * 3600, hours * 3600)
    assert 0 <= found <= length
    whole = overlap(begin, begin + 86_400, first * 3600, hours * 3600)
    assert whole == hours * 3600  # any whole day has them once, wherever it begins
    step = 600  # windows begin and end on it, so that whole steps can be counted
    start, steps = begin // step * step, length // step
    by_clock = sum((start + n * step) // 3600 % 24 in {(first + h) % 24 for h in range(hours)} for n in range(steps))
    assert overlap(start, start + steps * step, first * 3600, hours * 3600) == by_clock * step
    split = begin + length // 3
    assert found == overlap(begin, split, first * 3600, hours * 3600) + overlap(
        split, begin + length, first * 3600, hours * 3600
    )


def test_the_evening_costs_more_where_the_nodes_stand() -> None:
    noon_utc = 20_000 * 86_400_000 + 12 * 3_600_000
    hours = {"DE": 13, "JP": 21, "US": 7}
    for country, hour in hours.items():
        line = priced(plain(country=country), noon_utc)["peak hours"]
        assert line.numerator * 1000 == line.denominator * (1100 if 18 <= hour < 22 else 1000)
    half = priced(plain(country="JP", duration_seconds=2 * 3600), noon_utc)["peak hours"]
    assert half.numerator * 1000 == half.denominator * 1050  # one of two hours
    assert times(priced(plain(), noon_utc)["peak hours"]) == (1, 1)
    assert "ZZ is not known" in priced(plain(country="ZZ"), noon_utc)["peak hours"].why
    moved = priced(plain(country="ZZ"), noon_utc, utc_offset_table="ZZ=420")["peak hours"]
    assert moved.numerator * 1000 == moved.denominator * 1100


def test_no_hour_is_sold_below_its_power_or_its_ask() -> None:
    power = priced(power_micros_per_kwh=10**6)["cost floor"]
    assert power.amount == usd(price_of_ask(450_000))
    asks = Standing(asks=Asks((0, 1_900_000, 5_000_000), (2, 5, 6)))
    assert priced(plain(nodes=2), standing=asks)["cost floor"].amount == usd(370_139)
    assert priced(plain(nodes=3), standing=asks)["cost floor"].amount == usd(2_000_000)  # RNP-021's 1.90 → 2.00
    assert priced(plain(nodes=5, gpus_per_node=4), standing=asks)["operating fee"].amount == usd(8_000_000)
    dear = priced(plain(nodes=99), standing=asks)["operating fee"].amount
    assert divide(dear.amount)[0] >= 5_000_000


def test_a_price_that_no_wallet_holds_is_refused() -> None:
    asks = Standing(asks=Asks((10**11,), (1,)))
    refusal = given_quote(plain(nodes=10_000, gpus_per_node=64, duration_seconds=366 * 86_400), standing=asks)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.out_of_range


def test_odds_are_told_once_there_is_a_history() -> None:
    few = given_quote(standing=Standing(ready=Ready(8000, 20_000, 4)))
    enough = given_quote(standing=Standing(ready=Ready(8000, 20_000, 5)))
    assert isinstance(few, Quote) and isinstance(enough, Quote)
    assert (few.ready_p50_ms, few.ready_samples) == (None, 4)
    assert (enough.ready_p50_ms, enough.ready_p90_ms) == (8000, 20_000)


def test_an_operator_adds_models() -> None:
    added = with_added(
        CATALOGUE,
        '[{"model": "B300", "h200_tflops_percent": 120}, {"model": "X1", "msrp_cents": 432000, "power_w": 100}]',
    )
    assert added["B300"].msrp_cents == CATALOGUE["H200"].msrp_cents * 120 // 100
    assert "120 % of the H200" in added["B300"].assumption
    found = quote(plain(model="X1"), Terms("q", AT, 1), Tariff(added))
    assert isinstance(found, Quote)
    assert found.hourly == usd(10**6)


@pytest.mark.parametrize(
    "text",
    ["", "{}", '[{"model": "X"}]', '[{"model": "X", "msrp_cents": 0}]', '[{"model": "X", "msrp_cents": 1, "msrp": 2}]',
     '[{"model": "X", "msrp_cents": 1, "h200_tflops_percent": 1}]'],
)  # fmt: skip
def test_a_file_of_models_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        with_added(CATALOGUE, text)


def test_tables_are_read_and_checked() -> None:
    assert parsed(" US=1050, DE=900 ,", 500, 2000) == {"US": 1050, "DE": 900}
    for wrong in ("US", "US=x", "US=1", "US=1.5"):
        with pytest.raises(ValueError, match="NAME=NUMBER"):
            Policy(location_table=wrong)
    with pytest.raises(ValueError, match="surge_from"):
        Policy(surge_from_permille=950, surge_full_permille=950)


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "pricing.md").read_text(encoding="utf-8")
    assert not [name for name in Policy.__struct_fields__ if name not in page]
