"""Factors in a loaded transformers model."""
