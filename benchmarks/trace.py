"""Figure `trace`: tasks of a real GPU cluster replayed on its nodes, packed by the scheduler's rule and by others.

Takes the folder with nodes.csv and pods.csv as its argument, or in BIVOUAC_TRACE. Two runs a rule: `replay`, the tasks
in their own order and for as long as they ran, at their own pace and at a thousand times that (who finds no room waits,
and the oldest that fits gets the room that a task leaves); and `inflation`, tasks in random order that never end. Every
rule sees the same tasks. The nodes stand in random order, because a file's order can be a good or a bad one; what
first-fit makes of the file's own is told too. Our rule learns what is usually asked from the tasks that have come
before, and knows nothing of the file.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from benchmarks import harness
from services.scheduler.domain.packing import Demand, Need, Room, choose, fullest, usable

LEARN_EVERY, SEEDS, OVERLOAD = 200, 3, 1.2
PACES = (1, 1000)
OURS, BEST, FIRST, RANDOM = "least share of room (ours)", "best-fit", "first-fit", "random"
IN_ORDER = "first-fit, the file's order"
Rule = Callable[[Need, Room, Demand, Random], int | None]


class Task(NamedTuple):
    """Times in seconds."""

    need: Need
    created: int
    runs: int


def codes_of(folder: Path) -> dict[str, int]:
    """A number for each model that there is, or that a task would take."""
    with (folder / "nodes.csv").open() as nodes, (folder / "pods.csv").open() as pods:
        found = {row["model"] for row in csv.DictReader(nodes)}
        found |= {model for row in csv.DictReader(pods) for model in row["gpu_spec"].split("|") if model}
    return {model: number for number, model in enumerate(sorted(found))}


def tasks_of(folder: Path, codes: dict[str, int]) -> list[Task]:
    """A share of a GPU counts as one; a task that never ran in the trace has no length and asks for nothing here."""
    found = []
    with (folder / "pods.csv").open() as file:
        for row in csv.DictReader(file):
            if row["scheduled_time"]:
                need = Need(
                    gpus=int(row["num_gpu"]),
                    cpu_milli=int(row["cpu_milli"]),
                    memory_mib=int(row["memory_mib"]),
                    models=frozenset(codes[model] for model in filter(None, row["gpu_spec"].split("|"))),
                )
                runs = int(row["deletion_time"]) - int(row["scheduled_time"])
                found.append(Task(need, int(row["creation_time"]), max(runs, 0)))
    return sorted(found, key=lambda task: task.created)


def room_of(folder: Path, codes: dict[str, int]) -> Room:
    with (folder / "nodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    gpus, cpu, memory = (np.array([int(row[name]) for row in rows]) for name in ("gpu", "cpu_milli", "memory_mib"))
    return Room(gpus, cpu, memory, np.array([codes[row["model"]] for row in rows]))


def faster(tasks: list[Task], times: int) -> list[Task]:
    """The same tasks, that run as long, but come so many times as fast."""
    return [task._replace(created=task.created // times) for task in tasks]


def first_fit(need: Need, room: Room, _demand: Demand, _random: Random) -> int | None:
    nodes = np.flatnonzero(room.fits(need))
    return int(nodes[0]) if len(nodes) else None


def best_fit(need: Need, room: Room, _demand: Demand, _random: Random) -> int | None:
    nodes = np.flatnonzero(room.fits(need))
    return int(nodes[fullest(room.at(nodes))]) if len(nodes) else None


def at_random(need: Need, room: Room, _demand: Demand, random: Random) -> int | None:
    nodes = np.flatnonzero(room.fits(need))
    return int(random.choice(nodes)) if len(nodes) else None


def ours(need: Need, room: Room, demand: Demand, _random: Random) -> int | None:
    return choose(need, room, demand)


RULES: dict[str, Rule] = {OURS: ours, BEST: best_fit, FIRST: first_fit, RANDOM: at_random, IN_ORDER: first_fit}


class Cluster:
    """The nodes as one rule fills them."""

    def __init__(self, room: Room, name: str, seed: int) -> None:
        order = np.arange(len(room.gpus))
        if name != IN_ORDER:
            Random(seed).shuffle(order)  # type: ignore[arg-type]  # an array will do
        self.room = room.at(order)
        self.total = int(room.gpus.sum())
        self._rule, self._random = RULES[name], Random(seed)
        self._seen: list[Need] = []
        self._demand = Demand()

    @property
    def allocated(self) -> float:
        return 1 - float(self.room.gpus.sum()) / self.total

    def see(self, need: Need) -> None:
        """A task has come, whatever becomes of it."""
        self._seen.append(need)
        if len(self._seen) % LEARN_EVERY == 0:
            self._demand = Demand.of(self._seen)

    def put(self, need: Need) -> int | None:
        node = self._rule(need, self.room, self._demand, self._random)
        if node is not None:
            self._take(node, need, 1)
        return node

    def put_on(self, node: int, need: Need) -> bool:
        fits = bool(self.room.at([node]).fits(need)[0])
        if fits:
            self._take(node, need, 1)
        return fits

    def end(self, node: int, need: Need) -> None:
        self._take(node, need, -1)

    def _take(self, node: int, need: Need, sign: int) -> None:
        self.room.gpus[node] -= sign * need.gpus
        self.room.cpu_milli[node] -= sign * need.cpu_milli
        self.room.memory_mib[node] -= sign * need.memory_mib


class Replayed(NamedTuple):
    """Shares of the tasks, the mean wait in seconds, and the share of the GPUs while tasks came, on average."""

    accepted: float
    at_once: float
    wait: float
    allocated: float


def replay(tasks: list[Task], cluster: Cluster) -> Replayed:
    ends: list[tuple[int, int, int]] = []
    queue: list[int] = []
    waits: list[int] = []
    busy, since, last = 0.0, tasks[0].created, tasks[-1].created

    def start(number: int, node: int | None, now: int) -> bool:
        if node is not None:
            waits.append(now - tasks[number].created)
            heappush(ends, (now + tasks[number].runs, number, node))
        return node is not None

    for number, now in _moments(tasks, ends):
        busy += cluster.allocated * max(min(now, last) - since, 0)
        since = now
        if number is not None:
            need = tasks[number].need
            cluster.see(need)
            if not start(number, cluster.put(need), now):
                queue.append(number)
            continue
        _, ended, node = heappop(ends)
        cluster.end(node, tasks[ended].need)
        # Who waits fitted nowhere before: this node is the only one that can have room for him.
        queue = [one for one in queue if not (cluster.put_on(node, tasks[one].need) and start(one, node, now))]
    count = len(tasks)
    return Replayed(
        len(waits) / count, waits.count(0) / count, statistics.mean(waits), busy / (last - tasks[0].created)
    )


def _moments(tasks: list[Task], ends: list[tuple[int, int, int]]) -> Iterator[tuple[int | None, int]]:
    """Each arrival as its number, each end as None, with its time; ends before arrivals of the same second."""
    for number, task in enumerate(tasks):
        while ends and ends[0][0] <= task.created:
            yield None, ends[0][0]
        yield number, task.created
    while ends:
        yield None, ends[0][0]


class Inflated(NamedTuple):
    """Share of the tasks; shares of the GPUs; `stranded` are free and of no use to what is asked, on average."""

    accepted: float
    allocated: float
    stranded: float
    full: float


def inflate(tasks: list[Task], cluster: Cluster, seed: int) -> Inflated:
    """When every GPU has been asked for, and then GPUs allocated when hardly anything fits any more."""
    random = Random(seed)
    asked, came, accepted = 0, 0, 0
    at_capacity: tuple[float, float, float] | None = None
    while asked < OVERLOAD * cluster.total:
        for task in random.sample(tasks, len(tasks)):
            cluster.see(task.need)
            asked, came = asked + task.need.gpus, came + 1
            accepted += cluster.put(task.need) is not None
            if at_capacity is None and asked >= cluster.total:
                demand = Demand.of(one.need for one in tasks)
                useful = float(np.array(demand.shares) @ usable(cluster.room, demand).sum(axis=1))
                useless = 1 - cluster.allocated - useful / cluster.total
                at_capacity = accepted / came, cluster.allocated, useless
            if asked >= OVERLOAD * cluster.total:
                break
    assert at_capacity is not None
    return Inflated(*at_capacity, cluster.allocated)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BIVOUAC_TRACE", ""))
    if not (folder / "pods.csv").is_file() or not (folder / "nodes.csv").is_file():
        print("trace: skipped, since there is no trace here; give the folder with its nodes.csv and pods.csv.")
        return
    codes = codes_of(folder)
    tasks, room = tasks_of(folder, codes), room_of(folder, codes)
    replayed = {
        f"{name}, {pace} x": replay(faster(tasks, pace), Cluster(room, name, 0)) for pace in PACES for name in RULES
    }
    inflated = {name: [inflate(tasks, Cluster(room, name, seed), seed) for seed in range(SEEDS)] for name in RULES}
    report(
        replayed, {name: Inflated(*map(statistics.mean, zip(*runs, strict=True))) for name, runs in inflated.items()}
    )


def report(replayed: dict[str, Replayed], inflated: dict[str, Inflated]) -> None:
    harness.table(
        ["replay, %", "tasks run", "at once", "mean wait s", "GPUs allocated"],
        [
            (name, 100 * one.accepted, 100 * one.at_once, one.wait, 100 * one.allocated)
            for name, one in replayed.items()
        ],
    )
    harness.table(
        ["inflation, %", "tasks accepted", "GPUs allocated", "GPUs stranded", f"allocated at {OVERLOAD:g} times"],
        [(name, *(100 * share for share in one)) for name, one in inflated.items()],
    )
    print(f"Inflation: mean of {SEEDS} orders of the tasks, when as many GPUs have been asked for as there are.")
    mine, best = inflated[OURS], inflated[BEST]
    harness.conclude(
        "trace",
        100 * mine.allocated,
        "% of GPUs allocated",
        f"best-fit {100 * best.allocated:.2f} %; tasks accepted {100 * mine.accepted:.2f} % and best-fit's "
        f"{100 * best.accepted:.2f} %",
        "at least best-fit's, at the same acceptance",
        holds=mine.allocated >= best.allocated and mine.accepted >= best.accepted,
    )


if __name__ == "__main__":
    main()
