"""flops_reading: what a proof of GPU reads of a device, against the library's own product of the same size there.

The reading is the proof's: from the question to the root of the commitment, the rows of A and the hashing included.
The library multiplies such numbers on the path the proof is pinned to. Both are taken in turns, and the median of their
ratio counts. On a card the clock is the wall's; on a processor it is the processor time of all threads, hashing
included, so that what else runs on the machine says nothing.
"""

import argparse
import secrets
import statistics
import time

import torch

from benchmarks.harness import conclude, table
from libs.proofs import philox_torch
from libs.proofs.geometry import Geometry
from libs.proofs.prover import Prover, device_of


def clock() -> float:
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def seconds_of_library(prover: Prover, times: int) -> float:
    """Mean time of one whole product on the device, its result left there."""
    order, device = prover.order, prover.device
    rows = philox_torch.rows(secrets.token_bytes(32), 0, order, order, device)
    factor = philox_torch.rows(secrets.token_bytes(32), 0, order, order, device)
    turned = factor.t().contiguous().t()
    singles = rows.to(torch.float32), factor.to(torch.float32)

    def run() -> torch.Tensor:
        return torch._int_mm(rows, turned) if device.type == "cuda" else singles[0] @ singles[1]

    run()
    _settle(device)
    started = clock()
    for _ in range(times):
        run()
    _settle(device)
    return (clock() - started) / times


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    cuda = torch.cuda.is_available()
    parser.add_argument("--order", type=int, default=8192 if cuda else 4096)
    parser.add_argument("--steps", type=int, default=256 if cuda else 4)
    parser.add_argument("--every", type=int, default=8 if cuda else 4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch on a processor, for both sides")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    geometry = Geometry(order=asked.order, steps=asked.steps, every=asked.every)
    prover = Prover(secrets.token_bytes(32), asked.order, device_of(0))
    prover.commit(Geometry(order=asked.order), "warm", 0, b"")
    rows, ratios = [], []
    for _ in range(asked.rounds):
        library = 2 * asked.order**3 / seconds_of_library(prover, max(2, asked.steps // 4)) / 1e9
        started = clock()
        prover.commit(geometry, "U" + "A" * 55, 0, secrets.token_bytes(32))
        proof = geometry.operations / (clock() - started) / 1e9
        ratios.append(proof / library)
        rows.append((proof, library, 100 * proof / library))
    table(("proof GFLOP/s", "library GFLOP/s", "%"), rows)
    where = torch.cuda.get_device_name(0) if cuda else f"processor, {asked.threads} thread(s)"
    ratio = 100 * statistics.median(ratios)
    against = f"its own product, n = {asked.order}, {asked.steps} steps, {where}; {min(ratios):.2f}–{max(ratios):.2f}"
    conclude("flops_reading", ratio, "%", against, "≥ 85 %, commitment included", holds=ratio >= 85)


if __name__ == "__main__":
    main()
