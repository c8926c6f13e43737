"""RULER's tasks, their prompts, and their metric."""
