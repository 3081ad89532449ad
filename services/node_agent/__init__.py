"""Node agent: runs the network's work on a provider's machine.

Decides  whether a command is still valid (its fence), and when a lease is over (its own clock guards that too).
Hears    StartRayNode, StopRayNode, RunJob, StopJob, Probe, ProveGpu.
Says     NodeJoined, NodeLeaving, Heartbeat, RayNode…, LeaseRejected, JobExited, NodeJobLog.
Owns     its key, and a small store of what it has yet to say while the bus is away.

It is idle nearly always, so it stays small: Ray, torch and NumPy are loaded by child processes, when needed.
"""
