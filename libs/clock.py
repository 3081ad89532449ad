"""The time of this machine, read at the edge and passed inwards as an argument."""

import time


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000
