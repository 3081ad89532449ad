"""Pricing: what a cluster costs now.

Decides  the price of an hour of a model (RNP-004: list price / 180 days / 24 h, bandwidth tier on top), line by line.
Hears    BookingPlaced; NodeAdmitted, NodeLost, NodeWithdrawn (how many nodes of a model the pool has).
Answers  GetQuote.
Says     BookingQuoted, QuoteDeclined.
Owns     quotes, in Valkey, for the minutes they hold: a quote that is lost has expired, and never costs another price.

Words: a quote is a price held for a partner; a line is one factor of it; a tier is a class of bandwidth; an ask is
what a node wants per hour. A model nobody offers is priced too: capacity is the scheduler's word.
"""
