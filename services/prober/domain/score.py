"""RNP-004's availability performance score, P = b⁴ × t³ × m² × c."""

import math

from wire.values import ProbeReadings

REFERENCE = ProbeReadings(bandwidth_kb_s=50_000, memory_mb=24 * 1024, cpu_mhz=3_000, gflops=82_580)
"""50 MB/s, an RTX 4090's 82.58 TFLOPS and 24 GB, 3.0 GHz: P(reference) = 1."""

SCORE_MAX = 2**53 - 1
_EXPONENTS = {"bandwidth_kb_s": 4, "gflops": 3, "memory_mb": 2, "cpu_mhz": 1}


def score_millionths(readings: ProbeReadings) -> int:
    """P relative to the reference node, in millionths, for display; computed in log space and capped at 2⁵³ − 1.

    Pay never uses it: the ledger multiplies the integer readings out exactly.
    """
    logarithm = 0.0
    for name, exponent in _EXPONENTS.items():
        reading = getattr(readings, name)
        if reading <= 0:
            return 0
        logarithm += exponent * math.log(reading / getattr(REFERENCE, name))
    if logarithm > math.log(SCORE_MAX / 1e6):
        return SCORE_MAX
    return round(math.exp(logarithm) * 1e6)
