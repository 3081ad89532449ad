"""Decisions of pricing: pure functions over integers."""
