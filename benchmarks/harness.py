"""What the benchmarks share: the machine, a table, and the last line in JSON that says whether the figure holds."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

ROOT = Path(__file__).parent.parent


def machine() -> str:
    """One line: processor, cores that we may use, memory, kernel, Python."""
    model = platform.processor() or platform.machine()
    memory = 0
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return (
        f"{model}, {cores} cores, {memory} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns; numbers stand right."""
    cells = [list(headings), *[[_cell(value) for value in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for number, row in enumerate(cells):
        right = [number > 0 and isinstance(rows[number - 1][column], int | float) for column in range(len(row))]
        line = [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ]
        print("  ".join(line).rstrip())


def conclude(figure: str, value: float, unit: str, against: str, goal: str, *, holds: bool) -> None:
    """The machine, then the JSON line, which is the last; nothing may be printed after it."""
    print(f"machine: {machine()}")
    line = {
        "figure": figure,
        "value": round(value, 4),
        "unit": unit,
        "against": against,
        "goal": goal,
        "holds": holds,
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On uvloop, as everything here runs."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
