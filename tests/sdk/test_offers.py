"""The language of offers: what it means, and that whatever it cannot read is pointed at."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bivouac.errors import Invalid
from bivouac.offers import FIELDS, OPERATORS, Unreadable, choose, parse
from wire.node import FleetNode
from wire.values import usd


def node(number: int, **changes: Any) -> FleetNode:
    values: dict[str, Any] = {
        "node_id": "U" + "A" * 54 + "ABCDEFGH"[number],
        "name": f"rig {number}",
        "model": "RTX 4090",
        "gpus": 4,
        "country": "SI",
        "bandwidth_tier": "med_1",
        "state": "free",
        "reputation_millis": 900,
        "last_seen_at": 0,
        "vram_mb": 24_576,
        "ask_hourly": usd(380_000),  # sold at 0.40
    }
    return FleetNode(**{**values, **changes})


def means(expression: str, *nodes: FleetNode) -> list[str]:
    return [found.name for found in choose(expression, nodes)]


@pytest.mark.parametrize(
    ("change", "expression"),
    [
        ({"model": "H100"}, "gpu=RTX_4090"),
        ({"gpus": 3}, "gpus>=4"),
        ({"country": "DE"}, "country=si"),
        ({"reputation_millis": 899}, "reputation>=0.9"),
        ({"ask_hourly": usd(380_001)}, "price<=0.4"),
        ({"vram_mb": 24_575}, "vram>=24"),
        ({"bandwidth_tier": "low_2"}, "tier>=med_1"),
        ({"state": "leased"}, ""),
        ({"state": "leased"}, "state!=leased,lost"),
    ],
)
def test_each_field_tells_a_node_from_another(change: dict[str, Any], expression: str) -> None:
    whole = "gpu=RTX_4090 gpus>=4 country=SI reputation>=0.9 price<=0.4"
    nodes = (node(0), node(1, **change))
    assert means(expression, *nodes) == ["rig 0"]
    assert means(f"{whole} {expression}", *nodes) == ["rig 0"]


def test_values_after_commas_are_alternatives_and_words_may_stand_apart() -> None:
    nodes = (node(0, model="H100"), node(1), node(2, model="RTX_A6000"))
    assert means('gpu = "RTX 4090" , h100', *nodes) == ["rig 0", "rig 1"]
    assert means("gpu!=rtx_4090,h100", *nodes) == ["rig 2"]
    assert means("gpu=rtx_a6000", *nodes) == ["rig 2"]


def test_the_best_comes_first_and_who_takes_any_price_is_below_every_limit() -> None:
    nodes = (node(0, ask_hourly=usd(100)), node(1, ask_hourly=None), node(2, reputation_millis=901))
    assert means("", *nodes) == ["rig 2", "rig 1", "rig 0"]
    assert means("price<0.1", *nodes) == ["rig 1", "rig 0"]
    assert means("price>=0.1", *nodes) == ["rig 2"]


@pytest.mark.parametrize(
    ("expression", "pointed_at"),
    [
        ("gpus>=4 gpuz=RTX_4090", "gpuz"),
        ("country=SI gpus=>4", "=>"),
        ("gpus>=four country=SI", "four"),
        ("reputation>=90", "90"),
        ("country=Slovenia", "Slovenia"),
        ("tier>=fast", "fast"),
        ("country>SI", ">"),
        ("gpus", "gpus"),
        ("gpus>=4 price<=", "<="),
        ("gpu=RTX_4090, gpus=4", "="),
        ("gpu=H100,", ","),
        (">=4", ">="),
        ('country=SI gpu="RTX 4090', '"RTX 4090'),
        ("price<=-1", "-1"),
        ("gpus>=nan", "nan"),
        ("price<=1e9", "1e9"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(expression: str, pointed_at: str) -> None:
    with pytest.raises(Unreadable) as raised:
        parse(expression)
    sentence, line, carets = str(raised.value).split("\n")
    assert sentence.endswith(".") and line == f"  {expression}"
    assert [line[at] for at, mark in enumerate(carets) if mark == "^"] == list(pointed_at)


def test_an_error_points_at_the_very_word() -> None:
    with pytest.raises(Unreadable) as raised:
        parse("gpus>=4 country=S1")
    assert str(raised.value) == (
        "'S1' will not do for 'country', which wants two letters, such as SI.\n"
        "  gpus>=4 country=S1\n"
        "                  ^^"
    )


@given(st.text(st.sampled_from('gpus price=<>!," _4.A\n'), max_size=40) | st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        comparisons = parse(text)
    except Invalid:
        return
    assert all(one.field in FIELDS and one.operator in OPERATORS and one.values for one in comparisons)
    choose(text, [node(0)])
