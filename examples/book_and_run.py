"""Books two nodes, runs the batch inference on them, prints the bill: `python examples/book_and_run.py acme.json`."""

import asyncio
import sys
from pathlib import Path

from bivouac import Client, Refused, cluster, profile

WORK = Path(__file__).parent / "batch_inference"


async def main(named: str) -> None:
    me = profile.load(profile=named)
    async with await Client.connect(me.url, identity=me.identity, key_file=me.key_file) as client:
        try:
            async with client.book(cluster(2, "CPU", hours="0.5"), max_total="1.00") as booking:
                job = await booking.run(["python", "infer.py"], files=WORK, environment={"REPEAT": "20"})
                async for line in job.logs():
                    print(line)
                print(await job.result(to=Path("results") / job.job_id))
        except Refused as refused:
            sys.exit(f"{refused} Nearest: {refused.nearest}")
        # Here the cluster is released, and what was not used is back in the wallet.
        bill = await client.receipt(booking.booking_id)
        print(f"cost {bill.cost.amount / 1e6} USD, refunded {bill.refunded.amount / 1e6} USD")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else ""))
