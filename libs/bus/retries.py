"""How often and how soon a message that failed is tried again; its service being killed is not its failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.errors import Error as NatsError

from libs.bus.reading import place_of

if TYPE_CHECKING:
    from nats.aio.msg import Msg

BUG_ATTEMPTS = 4
"""A handler that raises is wrong about this message: 4 s of tries let a bad moment pass, then its sender knows."""

NETWORK_ATTEMPTS = 12
"""An effect that meets a network failure is tried for about 4 minutes."""

DELIVERIES_MAX = 100
"""A message that was handed out so often and never settled kills its service; being killed by others is far rarer."""

_DELIVERIES_SUSPECT = 3
_SECONDS = (0.2, 4.0, 30.0)  # first pause, growth, longest
_REMEMBERED_MAX = 10_000


def retry_delay(failures: int, error: Exception) -> float | None:
    """Seconds until the next try after so many failures, None to give up."""
    transient = isinstance(error, (OSError, TimeoutError, NatsError))
    if failures >= (NETWORK_ATTEMPTS if transient else BUG_ATTEMPTS):
        return None
    first, growth, longest = _SECONDS
    return min(first * growth ** min(failures - 1, 10), longest)


class Failures:
    """Failures of this process, by message; at most 10,000 messages are remembered, the oldest forgotten first."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}

    def count(self, raw: Msg) -> int:
        stream, sequence, _ = place_of(raw)
        failures = self._counts.pop((stream, sequence), 0) + 1
        self._counts[stream, sequence] = failures
        if len(self._counts) > _REMEMBERED_MAX:
            del self._counts[next(iter(self._counts))]
        return failures

    def forget(self, raw: Msg) -> None:
        if self._counts:
            self._counts.pop(place_of(raw)[:2], None)

    def suspect(self, raw: Msg) -> bool:
        """It failed before, or came back unsettled more than once or twice: it shall not spoil a group."""
        stream, sequence, delivered = place_of(raw)
        return delivered > _DELIVERIES_SUSPECT or (stream, sequence) in self._counts

    def killed_too_often(self, raw: Msg) -> bool:
        return place_of(raw)[2] >= DELIVERIES_MAX
