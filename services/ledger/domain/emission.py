"""How much RENDER an epoch emits: RNP-001's schedule, which depends on the epoch's number alone, never on the burn.

Year 1 emits 9,126,804 RENDER in 48 epochs (760,567 a month, four a month): 190,141.75 an epoch, which RNP-004's
examples round to 190,142. Years 2 and 3 emit 5.9 M each, every later year 0.945 of the year before, until the total
new supply of 107,374,182 is out. The share that is set aside for availability is taken first.
"""

from dataclasses import dataclass

RENDER = 10**8
EPOCHS_PER_YEAR = 48
FIRST_YEARS = (9_126_804 * RENDER, 5_900_000 * RENDER, 5_900_000 * RENDER)
DAMPING_PER_MILLE = 945
SUPPLY_MAX = 107_374_182 * RENDER
PPM = 10**6


@dataclass(frozen=True, slots=True)
class Emission:
    """Base units of RENDER: `job` is RNP-004's E_t, `availability` stands beside it."""

    job: int
    availability: int


def split(total: int, availability_ppm: int) -> Emission:
    availability = total * availability_ppm // PPM
    return Emission(total - availability, availability)


def scheduled(epoch: int) -> int:
    """Base units that the schedule emits in `epoch`, counted from 0; the epochs of a year sum to it exactly."""
    return _until(epoch + 1) - _until(epoch)


def _until(epoch: int) -> int:
    """All that is emitted before `epoch`."""
    before, year = 0, 0
    emitted = FIRST_YEARS[0]
    while epoch >= EPOCHS_PER_YEAR and before < SUPPLY_MAX and emitted:
        before += emitted
        epoch -= EPOCHS_PER_YEAR
        year += 1
        emitted = FIRST_YEARS[year] if year < len(FIRST_YEARS) else emitted * DAMPING_PER_MILLE // 1000
    return min(SUPPLY_MAX, before + emitted * min(epoch, EPOCHS_PER_YEAR) // EPOCHS_PER_YEAR)
