"""LongRoPE2's evolutionary search."""
