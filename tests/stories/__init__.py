"""What a person types and what he is told, written down and compared."""
