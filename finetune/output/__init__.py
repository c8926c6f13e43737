"""What a training leaves: the checkpoint, its GGUF, and its model card."""
