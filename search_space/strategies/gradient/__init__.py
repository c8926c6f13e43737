"""Gradient descent on the factors, for scorers that differentiate."""
