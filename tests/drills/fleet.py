"""Several node agents in one process, each the real one with its own key and connection, but without Ray.

python -m tests.drills.fleet URL DIRECTORY NAME…
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any, cast

import uvloop

from libs import nkey
from services.node_agent import leases, ray_jobs
from services.node_agent.agent import Agent
from tests.drills import light_ray
from wire.values import CPU_MODEL, NodeSpec, PortBlock

_PORTS_FIRST, _PORTS = 20_032, 64


def spec(name: str, number: int) -> NodeSpec:
    """What a node of a drill says it is; nobody will ever listen on its ports."""
    return NodeSpec(
        name=name,
        manufacturer="none",
        model=CPU_MODEL,
        gpus=0,
        vram_mb=0,
        cpu_model="a light one",
        cpu_cores=1,
        cpu_mhz=1000,
        memory_mb=512,
        ray_ports=PortBlock(first=_PORTS_FIRST + _PORTS * number, count=_PORTS),
    )


def agent(url: str, directory: Path, name: str, number: int) -> Agent:
    directory.mkdir(parents=True, exist_ok=True)
    made = Agent(url, nkey.make(directory / "node.seed"), spec(name, number), [], directory)
    made._probes = cast("Any", light_ray.LightProbes())
    return made


def without_ray() -> None:
    """From here on the agents of this process start no Ray."""
    vars(leases)["RayNode"] = light_ray.LightRayNode
    vars(ray_jobs)["submit"] = light_ray.submit


async def run(url: str, directory: Path, names: list[str]) -> None:
    agents = [agent(url, directory / name, name, number) for number, name in enumerate(names)]
    async with asyncio.TaskGroup() as together:
        for one in agents:
            together.create_task(one.run())


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    without_ray()
    uvloop.run(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
