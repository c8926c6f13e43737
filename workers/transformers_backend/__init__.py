"""Scoring and generation with a transformers model, on any device that torch has."""
