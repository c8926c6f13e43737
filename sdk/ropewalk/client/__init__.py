"""A server's client: one call per route, its two ways of waiting, and what it says while it waits."""
