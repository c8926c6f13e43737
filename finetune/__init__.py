"""Mixed-context-window training started from winning factors."""
