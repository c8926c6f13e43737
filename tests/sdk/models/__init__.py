"""Factors in loaded models, and texts that cross the original length."""
