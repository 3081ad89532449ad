"""Prober: finds out by test jobs whether a node is what it claims.

Decides  when a node is tested (random times), what it is asked, and whether its answers are right and in time.
Hears    NodeAdmitted, NodeLost, NodeWithdrawn.
Says     Probe, ProveGpu (to the node); ProbePassed, ProbeFailed, ProbeUnmeasurable.
Owns     the schedule of test jobs and the verdicts.

Words: a *test job* is one round of questions (RNP-004); *readings* b, m, c, t are what it measured.
"""
