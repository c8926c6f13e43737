"""Jobs: created, claimed, leased, moved between states, and their events."""
