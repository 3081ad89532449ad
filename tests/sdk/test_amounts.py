"""Amounts typed and printed: exact both ways, and each doubt is one sentence."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bivouac.amounts import parse_hours, parse_usd, show, show_duration, show_number
from bivouac.errors import Invalid
from wire.values import AMOUNT_MAX, Money


@pytest.mark.parametrize(
    ("typed", "micros"),
    [("12.50", 12_500_000), ("$12.50", 12_500_000), (" 3 USD ", 3_000_000), ("0.000001", 1), ("1.1", 1_100_000)],
)
def test_usd_is_read_exactly(typed: str, micros: int) -> None:
    assert parse_usd(typed) == Money(micros, "USD")


@pytest.mark.parametrize(
    "typed",
    ["0", "0.0", "-1", "-0.5", "nan", "NaN", "inf", "-Infinity", "1e3", "1_000", "", " ", "12,50", "٣", "0x10", "1.",
     ".5", "0.0000001", "1000000000000.000001", "9" * 100, "1" + "0" * 39, "abc", "1 2"],
)  # fmt: skip
def test_what_is_no_amount_is_refused_with_one_sentence(typed: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_usd(typed)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert len(sentence) < 200
    assert "\n" not in sentence


def test_the_largest_amount_is_the_contracts_own() -> None:
    assert parse_usd("999999999999.999999").amount == AMOUNT_MAX
    with pytest.raises(Invalid, match="too much"):
        parse_usd("1000000000000")


@given(st.integers(1, AMOUNT_MAX))
def test_what_is_printed_reads_back_as_the_same_amount(micros: int) -> None:
    assert parse_usd(show_number(Money(micros)).replace(",", "")).amount == micros


@given(st.integers(0, AMOUNT_MAX), st.sampled_from(["USD", "RENDER", "COUPON"]))
def test_every_digit_that_matters_is_printed(amount: int, asset: str) -> None:
    money = Money(amount, asset)  # type: ignore[arg-type]
    decimals = 8 if asset == "RENDER" else 6
    number = show_number(money).replace(",", "")
    assert Decimal(number).scaleb(decimals) == amount
    fraction = number.split(".")[1]
    assert len(fraction) >= 2
    assert len(fraction) == 2 or not fraction.endswith("0")
    assert show(money).endswith(f" {asset}")


@given(st.text())
def test_no_text_makes_anything_but_an_amount_or_a_sentence(typed: str) -> None:
    try:
        amount = parse_usd(typed).amount
    except Invalid:
        return
    assert 0 < amount <= AMOUNT_MAX


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("0.1", 360), ("24", 86_400), ("0.017", 62), ("0.3333", 1200), ("8784", 366 * 86_400), ("1.00001", 3601)],
)
def test_hours_become_whole_seconds_rounded_up(typed: str, seconds: int) -> None:
    assert parse_hours(typed) == seconds


@pytest.mark.parametrize("typed", ["0", "-1", "nan", "inf", "0.016", "8784.001", "1e9", "", "two", "1h", "9" * 400])
def test_impossible_hours_are_refused(typed: str) -> None:
    with pytest.raises(Invalid):
        parse_hours(typed)


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(0, "0 s"), (8_250, "8.25 s"), (60_000, "1 min"), (725_000, "12 min 5 s"), (5_400_000, "1 h 30 min"),
     (90_000_000, "1 d 1 h"), (86_400_000, "1 d")],
)  # fmt: skip
def test_durations_are_shown_by_their_two_largest_units(milliseconds: int, shown: str) -> None:
    assert show_duration(milliseconds) == shown
