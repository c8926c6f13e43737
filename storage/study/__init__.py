"""The Optuna study of a search: candidates, steps, and trial states."""
