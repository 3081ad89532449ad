"""Scheduler: which nodes a booking gets, and what becomes of it when they do not stay.

Decides  who is leased to whom, all or nothing; which node is head; when a cluster is ready, replaced, restarted, over;
         whether a node lives.
Hears    orders and releases, prices, escrows, jobs and their files, nodes that come, start, fail and leave, heartbeats,
         reputations, bans.
Says     the life of bookings, leases and jobs; what nodes have to start and stop; who is in the fleet.
Owns     nodes, bookings, leases, jobs.

gang: the nodes of a booking, held together or not at all. place: a numbered seat in it. lease: one node in one place.
fence: counts a node's leases, so that orders from the past are known. generation: counts a cluster's heads.
"""
