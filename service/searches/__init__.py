"""A search: prepared, run, validated on held-out documents, and its result."""
