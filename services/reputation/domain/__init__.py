"""Decisions of reputation: pure functions of evidence and time."""
