"""The arithmetic of scores: NLL and exact match, retention, and the RoPE that a server runs with."""
