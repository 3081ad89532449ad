"""The cumulative Beta distribution, exact to far more than a thousandth, from the standard library alone."""

from math import exp, lgamma, log

_TINY = 1e-300
_EPSILON = 1e-12
_TERMS_MAX = 100_000


def beta_cdf(x: float, a: float, b: float) -> float:
    """P(X ≤ x) for X ~ Beta(a, b): the regularised incomplete beta function I_x(a, b), 0 ≤ x ≤ 1, a > 0, b > 0.

    Continued fraction DLMF 8.17.22, on the side of the mean where it converges in O(√max(a, b)) terms.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluated by the modified Lentz method (Press et al., Numerical Recipes, 6.4)."""
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _nonzero(1 + even * d), _nonzero(1 + even / c)
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _nonzero(1 + odd * d), _nonzero(1 + odd / c)
        value *= d * c
        if abs(d * c - 1) < _EPSILON:
            return value
    raise ArithmeticError(f"the continued fraction of I_{x}({a}, {b}) does not converge")


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
