"""How good the factors of each strategy are, and what they cost."""
