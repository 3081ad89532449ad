"""How an epoch's pools are shared out, one file per proposal."""
