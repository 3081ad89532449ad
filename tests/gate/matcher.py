"""How NATS matches subjects, written down once more, so that permissions can be judged without a server."""

from collections.abc import Iterable


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject that `subject` stands for (it may hold wildcards itself) is among those of `pattern`."""
    wanted, given = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(given) > place
        if place >= len(given) or given[place] == ">" or (given[place] != token and token != "*"):
            return False
    return len(wanted) == len(given)


def allowed(patterns: Iterable[str], subject: str) -> bool:
    return any(covers(pattern, subject) for pattern in patterns)
