"""Optuna's own tables, and faster readers of them."""
