"""What a score means: needle documents, perplexity and exact match over answer tokens."""
