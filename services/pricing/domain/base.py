"""What an hour of a model costs by itself: its list price earned back in 180 days (RNP-004), in integers."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Annotated

import msgspec

from wire.values import Word

BREAK_EVEN_DAYS = 180
MICROS_PER_CENT = 10_000
REFERENCE_MODEL = "H200"
_MAKERS = ("nvidia", "geforce", "tesla", "amd", "radeon", "instinct")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A model with its list price; `assumption` says where that comes from if no maker ever named it in USD.

    The hardware facts are those of RNP-004's table, for models that it lacks their makers'; 0 where nothing is known.
    """

    model: str
    msrp_cents: int
    assumption: str = ""
    tensor_cores: int = 0
    gflops: int = 0
    memory_mb: int = 0
    memory_bandwidth_mb_s: int = 0
    power_w: int = 0

    @property
    def hourly_micros(self) -> int:
        """`msrp / 180 / 24`, to the nearest micro-USD, half a micro upwards (RNP-004)."""
        hours = BREAK_EVEN_DAYS * 24
        return (2 * self.msrp_cents * MICROS_PER_CENT + hours) // (2 * hours)


Catalogue = Mapping[str, Card]
_Fact = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class AddedCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the operator's file: a list price, or how many per cent of an H200's TFLOPS the model has (RNP-021)."""

    model: Word
    msrp_cents: Annotated[int, msgspec.Meta(ge=1, le=10**10)] | None = None
    h200_tflops_percent: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    assumption: Annotated[str, msgspec.Meta(max_length=500)] = ""
    tensor_cores: _Fact = 0
    gflops: _Fact = 0
    memory_mb: _Fact = 0
    memory_bandwidth_mb_s: _Fact = 0
    power_w: _Fact = 0

    def __post_init__(self) -> None:
        if (self.msrp_cents is None) == (self.h200_tflops_percent is None):
            raise ValueError(f"{self.model}: give msrp_cents or h200_tflops_percent, one of the two")


def with_added(cards: Catalogue, text: str) -> Catalogue:
    """The catalogue and the rows of the operator's file, which is a JSON list; raises ValueError with one sentence.

    RNP-021: a new model at x % of the H200's TFLOPS stands at x % of the H200.
    """
    try:
        rows = msgspec.json.decode(text, type=list[AddedCard])
    except msgspec.MsgspecError as error:
        raise ValueError(f"The file of added models cannot be read: {error}.") from error
    return {**cards, **{row.model: _card(row, cards[REFERENCE_MODEL]) for row in rows}}


def _card(row: AddedCard, reference: Card) -> Card:
    facts = {name: getattr(row, name) for name in ("tensor_cores", "memory_mb", "memory_bandwidth_mb_s", "power_w")}
    if row.msrp_cents is not None:
        return Card(model=row.model, msrp_cents=row.msrp_cents, assumption=row.assumption, gflops=row.gflops, **facts)
    percent = row.h200_tflops_percent or 0
    said = (
        f"a new model with {percent} % of the {reference.model}'s TFLOPS stands at {percent} % of its price (RNP-021)"
    )
    return Card(
        model=row.model,
        msrp_cents=max(1, (2 * reference.msrp_cents * percent + 100) // 200),
        assumption=f"{said}; {row.assumption}" if row.assumption else said,
        gflops=row.gflops or reference.gflops * percent // 100,
        **facts,
    )


def _catalogue() -> Catalogue:
    text = resources.files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    return {row["model"]: Card(**row) for rows in json.loads(text).values() for row in rows}


CATALOGUE = _catalogue()


def nearest_models(asked: str, limit: int = 3, cards: Catalogue = CATALOGUE) -> list[str]:
    """The priced models whose names are most like `asked`, makers' names and letter case apart; none if none is."""
    models = {_bare(model): model for model in cards}
    return [models[found] for found in difflib.get_close_matches(_bare(asked), list(models), n=limit, cutoff=0.6)]


def _bare(name: str) -> str:
    return " ".join(word for word in name.casefold().replace("-", " ").replace("_", " ").split() if word not in _MAKERS)
