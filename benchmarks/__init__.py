"""Scripts that print the tables of `benchmarks/reports`."""
