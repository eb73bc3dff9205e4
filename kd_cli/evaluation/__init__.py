"""How good networks are, what they cost, and whether a difference between them means anything."""
