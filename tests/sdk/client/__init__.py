"""What the client does without a service: odd servers, waiting, and what it shows."""
