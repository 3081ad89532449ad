"""One way to change a state: a table says which moves there are, every other raises and changes nothing."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)
Table = Mapping[S, frozenset[S]]


class IllegalMove(ValueError):
    """A bug, never a refusal: whoever asks for a move has to know the state first."""


def move(table: Table[S], state: S, then: S) -> S:
    """`then`, if the table leads there from `state`."""
    if then not in table[state]:
        raise IllegalMove(f"{type(state).__name__} cannot move from {state} to {then}.")
    return then
