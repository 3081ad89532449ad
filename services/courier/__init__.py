"""Courier: carries a job's files and log lines between its partner and the node that runs it.

Decides  whether a file is the one announced, and whether a node may speak for a job.
Hears    JobAccepted, JobExited, BookingEnded, NodeJobLog.
Says     JobFilesDelivered, JobFilesMissing, JobResultDelivered, JobLog.
Owns     routes: which node runs which partner's job; and the nodes' buckets.

Node and partner cannot reach each other: each may touch its own bucket and its own subjects only. What crosses
between them is copied here, by digest and within bounds.
"""
