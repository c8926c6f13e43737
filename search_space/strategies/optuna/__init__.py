"""Optuna's samplers as a strategy."""
