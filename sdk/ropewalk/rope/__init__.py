"""Rotary embeddings: configs, critical pairs, and factor vectors."""
