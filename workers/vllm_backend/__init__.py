"""Scoring and generation with a vLLM engine, which lives in a process of its own."""
