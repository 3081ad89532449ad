"""How a price divides: 5 % is the network's operating fee, 95 % buys RENDER that is burned (RNP-019, RNP-021)."""

FEE_PERCENT = 5
BURN_PERCENT = 100 - FEE_PERCENT


def price_of_ask(ask_micros: int) -> int:
    """What an hour is sold at so that 95 % of it is the ask: `ask × (1 + 5/95)`, rounded up to a micro-USD.

    Upwards, so that the 95 % that are left never fall below the ask (RNP-021: 1.90 is sold at 2.00 USD/h).
    """
    return -(-ask_micros * 100 // BURN_PERCENT)


def divide(total_micros: int) -> tuple[int, int]:
    """(burned, fee) of a total; the fee takes the remainder of the rounding, so that the two sum up exactly."""
    burned = total_micros * BURN_PERCENT // 100
    return burned, total_micros - burned
