"""What the store costs at size."""
