"""Models by name: files, tokenizer, and rotary embedding."""
