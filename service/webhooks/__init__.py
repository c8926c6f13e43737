"""Webhooks: which addresses may be called, how a message is signed, and how it is delivered."""
