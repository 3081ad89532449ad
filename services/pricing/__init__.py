"""Pricing: what a cluster costs now.

Decides  the price of an hour of a model (RNP-004: list price / 180 days / 24 h, then factor by factor), line by line.
Hears    BookingPlaced; NodeAdmitted, NodeLost, NodeWithdrawn, NodesHeld, NodeReplaced, LeaseEnded (how much of the
         pool is in use, and what its nodes ask); MarketRate (what others ask); ClusterReady (how soon clusters are).
Answers  GetQuote, EstimateWorkload, GetEarnings.
Says     BookingQuoted, QuoteDeclined; MessageRefused, of rates that it does not keep.
Owns     quotes, in Valkey, for the minutes they hold: a quote that is lost has expired, and never costs another price.

Words: a quote is a price held for a partner; a line is one factor of it; a tier is a class of bandwidth; an ask is
what a node wants per hour; surge is what a full pool adds. A model nobody offers is priced too.
"""
