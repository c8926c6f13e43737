"""What a document score costs beside its forward pass."""
