"""The controller: the life of a search, of a fine-tuning job and of an evaluation."""
