"""Fleets that benchmarks are run on."""
