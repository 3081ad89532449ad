"""The ledger's decisions: pure, in integers, with time as an argument."""
