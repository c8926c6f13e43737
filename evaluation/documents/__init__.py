"""Needle documents and plain-text windows, from corpus to tokens."""
