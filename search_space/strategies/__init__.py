"""How candidates are proposed: the protocol, the strategies, and what they share."""
