"""What a model is and what an extension of it meets, before anything is scored: one value for command line and REST."""
