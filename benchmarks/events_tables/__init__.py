"""The tables of the two services that benchmarks/events.py runs."""
