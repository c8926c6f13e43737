"""Document scores: accepted once, cached by content, read back."""
