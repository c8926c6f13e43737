"""A fine-tuning job: prepared from a search, and run on Ray Train."""
