"""What an hour of a model costs by itself: its list price earned back in 180 days (RNP-004), in integers."""

import difflib
import json
from dataclasses import dataclass
from importlib import resources

BREAK_EVEN_DAYS = 180
MICROS_PER_CENT = 10_000
_MAKERS = ("nvidia", "geforce", "tesla", "amd", "radeon", "instinct")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A model with its list price; `assumption` says where that comes from if no maker ever named it.

    The hardware facts are those of RNP-004's table, 0 where the table lacks the model.
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


def _catalogue() -> dict[str, Card]:
    text = resources.files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    return {row["model"]: Card(**row) for rows in json.loads(text).values() for row in rows}


CATALOGUE = _catalogue()


def nearest_models(asked: str, limit: int = 3) -> list[str]:
    """The priced models whose names are most like `asked`, makers' names and letter case apart; none if none is."""
    models = {_bare(model): model for model in CATALOGUE}
    return [models[found] for found in difflib.get_close_matches(_bare(asked), list(models), n=limit, cutoff=0.6)]


def _bare(name: str) -> str:
    return " ".join(word for word in name.casefold().replace("-", " ").replace("_", " ").split() if word not in _MAKERS)
