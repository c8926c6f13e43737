"""What the plugin of vLLM costs, and what it gives."""
