"""Whether a held gang gets its escrow: from the partner's wallet, once, whole or not at all."""

from wire.booking import NodesHeld
from wire.values import AMOUNT_MAX, Reason, Refusal, usd


def refusal(held: NodesHeld, wallet: int, now: int, ended: bool, owes: bool) -> Refusal | None:
    """Why it is not funded, or None. `ended`: the booking is over; `owes`: nevertheless leases of it have run."""
    if held.escrow.asset != "USD":
        return Refusal(reason=Reason.malformed, detail=f"Escrow is held in USD, not in {held.escrow.asset}.")
    if held.escrow.amount == 0:
        return Refusal(reason=Reason.out_of_range, detail="There is nothing to hold in escrow: the amount is 0.")
    if ended and not owes:
        return Refusal(reason=Reason.already_ended, detail="The booking had ended before its escrow was funded.")
    if not ended and held.hold_expires_at <= now:
        detail = "The hold on the nodes had expired before the escrow was funded."
        return Refusal(reason=Reason.already_ended, detail=detail)
    if held.escrow.amount > wallet:
        return Refusal(
            reason=Reason.insufficient_funds,
            detail=f"The booking needs {dollars(held.escrow.amount)} in escrow; the wallet holds {dollars(wallet)}.",
            nearest=nearest(held, wallet),
        )
    return None


def nearest(held: NodesHeld, wallet: int) -> str:
    """What the wallet would cover: fewer nodes for as long, or as many for a shorter time."""
    needed = held.escrow.amount
    missing = f"a deposit of {dollars(needed - wallet)}"
    hourly = sum(terms.hourly.amount for terms in held.leases)
    minutes = wallet * 60 // hourly if hourly else 0
    nodes = wallet * len(held.leases) // needed
    covered = []
    if nodes:
        covered.append(f"{nodes} of {len(held.leases)} nodes for the whole time")
    if minutes:
        covered.append(f"{len(held.leases)} {'node' if len(held.leases) == 1 else 'nodes'} for {minutes} minutes")
    return f"The wallet covers {' or '.join(covered)}; or make {missing}." if covered else f"Make {missing}."


def deposit_refusal(asset: str, amount: int, wallet: int, bank: int) -> Refusal | None:
    """Why a deposit is not booked, or None."""
    if asset != "USD":
        return Refusal(reason=Reason.malformed, detail=f"A deposit is made in USD, not in {asset}.")
    room = min(AMOUNT_MAX - wallet, AMOUNT_MAX + bank)
    if not 0 < amount <= room:
        nearest = f"An amount from {dollars(1)} to {dollars(room)}."
        return Refusal(reason=Reason.out_of_range, detail=f"{dollars(amount)} cannot be deposited.", nearest=nearest)
    return None


def dollars(micros: int) -> str:
    return f"{usd(micros).amount // 10**6}.{micros % 10**6:06d} USD"
