"""The bus against real servers: each effect once, whatever is repeated, refused, killed or lost."""
