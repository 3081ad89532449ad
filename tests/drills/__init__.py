"""Drills: the whole network with real processes, and what must hold of it after they were killed again and again."""
