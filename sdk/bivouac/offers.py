"""The language of offers: `gpu=RTX_4090 gpus>=4 country=SI reputation>=0.9 price<=0.4`, and which nodes it means.

    expression = { comparison }                     all of them hold
    comparison = field operator value { "," value } one of the values, where there are several
    operator   = "=" | "==" | "!=" | "<" | "<=" | ">" | ">="
    value      = word | '"' text '"'                an underscore in a word stands for a space too

Whatever cannot be read is told with a line that points at the word.
"""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bivouac.errors import Invalid
from wire.node import FleetNode
from wire.values import BandwidthTier

_TOKEN = re.compile(r'\s*(?:(?P<operator>[=<>!]+)|(?P<comma>,)|"(?P<text>[^"]*)"|(?P<word>[^\s=<>!,"]+)|(?P<wrong>\S))')
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?")
_LENGTH_MAX = 1000
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EQUAL = ("=", "==", "!=")
_TIERS = {str(tier): rank for rank, tier in enumerate(BandwidthTier)}
STATES = ("free", "leased", "draining", "lost")


class Unreadable(Invalid):
    """An expression that is none; the text says what is wrong, and points at the word."""

    def __init__(self, sentence: str, expression: str, start: int, end: int) -> None:
        self.start, self.end = start, end
        super().__init__(f"{sentence}\n  {expression}\n  {' ' * start}{'^' * max(end - start, 1)}")


@dataclass(frozen=True)
class Word:
    """A token, and where it stands."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Comparison:
    """One of the values has to compare so with what the node has in that field; with `!=`, all of them."""

    field: str
    operator: str
    values: tuple[Any, ...]

    def holds(self, node: FleetNode) -> bool:
        has = FIELDS[self.field].of(node)
        if has is None:  # no price is asked for: any will do, but nobody knows which
            return self.operator in ("<", "<=")
        compared = [OPERATORS[self.operator](has, value) for value in self.values]
        return all(compared) if self.operator == "!=" else any(compared)


@dataclass(frozen=True)
class Field:
    """What a node has, and how a value for it is read; None where it is none."""

    of: Callable[[FleetNode], Any]
    read: Callable[[str], Any]
    wants: str
    ordered: bool = True


def _name(text: str) -> str:
    return text.replace("_", " ").casefold()


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _share(text: str) -> Decimal | None:
    number = _number(text)
    return number if number is not None and number <= 1 else None


def _price(node: FleetNode) -> Decimal | None:
    """What is paid for an hour of a GPU: what the provider asks and the network's fee, 5 in 100 of the whole."""
    return None if node.ask_hourly is None else Decimal(node.ask_hourly.amount) * 20 / 19 / 10**6


FIELDS: dict[str, Field] = {
    "gpu": Field(lambda node: _name(node.model), _name, "a GPU model, such as RTX_4090", ordered=False),
    "gpus": Field(lambda node: node.gpus, _number, "a number"),
    "country": Field(
        lambda node: node.country,
        lambda text: text.upper() if re.fullmatch("[A-Za-z]{2}", text) else None,
        "two letters, such as SI",
        ordered=False,
    ),
    "tier": Field(lambda node: _TIERS.get(node.bandwidth_tier, -1), _TIERS.get, f"one of {', '.join(_TIERS)}"),
    "vram": Field(lambda node: Decimal(node.vram_mb) / 1024, _number, "a number of GiB"),
    "reputation": Field(lambda node: Decimal(node.reputation_millis) / 1000, _share, "a number from 0 to 1"),
    "price": Field(_price, _number, "USD for an hour of a GPU, such as 0.4"),
    "state": Field(
        lambda node: node.state,
        lambda text: text if text in STATES else None,
        f"one of {', '.join(STATES)}",
        ordered=False,
    ),
}


def parse(expression: str) -> tuple[Comparison, ...]:
    """The comparisons, in the order in which they are written; raises Unreadable."""
    if len(expression) > _LENGTH_MAX or not expression.isprintable():
        raise Invalid(f"An expression is one line of at most {_LENGTH_MAX} characters.")
    words = _words(expression)
    found = []
    while words:
        found.append(_comparison(words, expression))
    return tuple(found)


def choose(expression: str, nodes: Iterable[FleetNode]) -> tuple[FleetNode, ...]:
    """The nodes that are meant, the best first; only free ones, unless the expression speaks of the state."""
    comparisons = parse(expression)
    if all(one.field != "state" for one in comparisons):
        comparisons = (*comparisons, Comparison("state", "=", ("free",)))
    meant = [node for node in nodes if all(one.holds(node) for one in comparisons)]
    return tuple(sorted(meant, key=_rank))


def _rank(node: FleetNode) -> tuple[int, Decimal, int, str]:
    return (-node.reputation_millis, _price(node) or Decimal(0), node.gpus, node.node_id)


def _words(expression: str) -> list[Word]:
    words, at = [], 0
    while (match := _TOKEN.match(expression, at)) is not None:
        kind = match.lastgroup
        assert kind is not None
        at = match.end()
        start = match.start(kind) - (kind == "text")
        if kind == "wrong":
            raise Unreadable("This quotation has no end.", expression, start, len(expression.rstrip()))
        words.append(Word(kind, match[kind], start, at))
    return words


def _comparison(words: list[Word], expression: str) -> Comparison:
    def wrong(sentence: str, word: Word) -> Unreadable:
        return Unreadable(sentence, expression, word.start, word.end)

    name = words.pop(0)
    field = FIELDS.get(name.text.lower()) if name.kind == "word" else None
    if field is None:
        raise wrong(f"{name.text!r} is no field: choose one of {', '.join(FIELDS)}.", name)
    if not words or words[0].kind != "operator":
        raise wrong(f"After {name.text!r} comes one of {' '.join(OPERATORS)} and {field.wants}.", name)
    compares = words.pop(0)
    if compares.text not in OPERATORS:
        raise wrong(f"{compares.text!r} compares nothing: choose one of {' '.join(OPERATORS)}.", compares)
    if not field.ordered and compares.text not in _EQUAL:
        raise wrong(f"{name.text!r} is not more or less than another: choose = or !=.", compares)
    values, before = [], compares
    while True:
        if not words or words[0].kind not in ("word", "text"):
            raise wrong(f"After {before.text!r} comes {field.wants}.", before)
        word = words.pop(0)
        value = field.read(word.text)
        if value is None:
            raise wrong(f"{word.text!r} will not do for {name.text!r}, which wants {field.wants}.", word)
        values.append(value)
        if not words or words[0].kind != "comma":
            return Comparison(name.text.lower(), compares.text, tuple(values))
        before = words.pop(0)
