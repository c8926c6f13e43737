"""Does a model use its new length: before and after fine-tuning."""
