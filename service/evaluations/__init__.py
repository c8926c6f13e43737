"""An evaluation: its contenders, its measures, and its result."""
