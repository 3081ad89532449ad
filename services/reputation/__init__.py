"""Reputation: how far a node is trusted.

Decides  a node's score: an interval from decaying evidence, slow to gain and fast to lose; and its rank.
Hears    ProbePassed, ProbeFailed, LeaseEnded, NodeLost (evidence), NodeAdmitted (a node begins).
Answers  GetReputation.
Says     NodeScored, when a score moved by a thousandth or more.
Owns     evidence, append-only, and standings, in PostgreSQL; the rank board in Valkey, derived and rebuilt from them.

Words: evidence is what one event says, in thousandths of a passed test job; a standing is a node's evidence decayed to
one moment; lower, mean and upper are the 5 % quantile, the mean and the 95 % quantile of what is believed. Matching
uses lower.
"""
