"""vLLM with a switch: each request with the model's own RoPE up to L, with the long factors past it."""
