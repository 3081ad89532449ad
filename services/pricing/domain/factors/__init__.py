"""The factors of a price, one file each: what it multiplies by, and why; pure, integers only."""
