"""(candidate, document) in, score out: scorers, Ray actors and the pool that replaces lost ones."""
