"""A scorer that computes a formula instead of a model: for tests and demonstrations."""
