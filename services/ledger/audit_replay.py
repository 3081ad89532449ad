"""The auditor's replay: every transfer from the first on, in the order of the chain; shares no code with posting."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

MAY_BE_NEGATIVE = ("bank", "render_market", "render_mint", "coupon_mint")
FIRST_HASH = hashlib.sha256(b"bivouac ledger").digest()
AMOUNT_MAX = 10**18 - 1
EXAMPLES_MAX = 3


class Findings:
    """What was found broken under each check: how often, and the first few examples."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.examples: dict[str, list[str]] = defaultdict(list)

    def add(self, check: str, what: str) -> None:
        self.counts[check] += 1
        if len(self.examples[check]) < EXAMPLES_MAX:
            self.examples[check].append(what)


class Replay:
    """Feed it all transfers with their links; it keeps the sums that the stored figures have to agree with."""

    def __init__(self, assets: Mapping[str, str], findings: Findings) -> None:
        self.assets = assets
        self.findings = findings
        self.transfers = 0
        self.height = 0
        self.head = FIRST_HASH
        self.hashes_at: dict[int, bytes] = {}
        self.balances: dict[str, int] = defaultdict(int)
        self.escrow: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.charged: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.pools: dict[tuple[int, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.paid: dict[tuple[int, str, str], int] = defaultdict(int)

    def feed(self, row: Any) -> None:
        self.transfers += 1
        self._check_chain(row)
        self._check_body(row)
        self._move(row)
        self._sum_booking(row)
        self._sum_epoch(row)

    def _check_chain(self, row: Any) -> None:
        names = ("id", "debit", "credit", "asset", "amount", "kind", "partner", "booking", "lease", "epoch")
        canonical = "|".join(str(row[name]) for name in (*names, "cause", "event", "at"))
        self.height += 1
        self.head = hashlib.sha256(self.head + canonical.encode()).digest()
        if row["height"] != self.height:
            self.findings.add("I7", f"{row['id']} stands at height {row['height']}, not {self.height}")
        elif row["hash"] != self.head:
            self.findings.add("I7", f"the hash of {row['id']} at height {self.height} does not follow")
            self.head = row["hash"]  # one change is one finding, not one for each transfer after it
        if self.height in self.hashes_at and self.hashes_at[self.height] != self.head:
            self.findings.add("I7", f"the head published at height {self.height} was another one")

    def _check_body(self, row: Any) -> None:
        names = ("id", "debit", "credit", "asset", "amount", "kind", "partner", "booking", "lease")
        if row["body"] != hashlib.sha256("|".join(str(row[name]) for name in names).encode()).digest():
            self.findings.add("I4", f"the body of {row['id']} is not the one it was booked with")

    def _move(self, row: Any) -> None:
        debit, credit, amount = row["debit"], row["credit"], row["amount"]
        if not isinstance(amount, int) or not 0 < amount <= AMOUNT_MAX:
            self.findings.add("I9", f"{row['id']} moves {amount}")
        if {self.assets.get(debit), self.assets.get(credit)} != {row["asset"]}:
            self.findings.add("I1", f"{row['id']} moves {row['asset']} from {debit} to {credit}")
        self.balances[debit] -= amount
        self.balances[credit] += amount
        if self.balances[debit] < 0 and not debit.startswith(MAY_BE_NEGATIVE):
            self.findings.add("I2", f"{row['id']} leaves {debit} at {self.balances[debit]}")

    def _sum_booking(self, row: Any) -> None:
        key = (row["partner"], row["booking"])
        part = {"hold": "escrowed", "void": "refunded"}.get(row["kind"])
        if row["kind"] == "post":
            part = "fee" if row["credit"] == "fee" else "burned"
        if part is not None:
            self.escrow[key][part] += row["amount"]
        if row["lease"]:
            name = part or ("coupons" if row["asset"] == "COUPON" else "render")
            self.charged[(*key, row["lease"])][name] += row["amount"]

    def _sum_epoch(self, row: Any) -> None:
        into, out_of = row["credit"].startswith("pool:"), row["debit"].startswith("pool:")
        if not into and not out_of:
            return
        name, _, epoch = (row["credit"] if into else row["debit"]).removeprefix("pool:").partition("/")
        if int(epoch) != row["epoch"]:
            self.findings.add("I8", f"{row['id']} moves the pool of epoch {epoch} in epoch {row['epoch']}")
        if into:
            part = "minted" if row["debit"] == "render_mint" else "carried_in"
        elif row["credit"].startswith("pay:"):
            part = "paid"
            self.paid[(int(epoch), name, row["credit"].removeprefix("pay:"))] += row["amount"]
        else:
            part = "carried_out"
        self.pools[(int(epoch), name)][part] += row["amount"]
