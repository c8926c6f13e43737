"""Kinds of training rows compared: full ones of L' tokens, and few tokens whose positions reach as far."""
