"""What goes to the Hugging Face Hub: which files, their card, and the upload."""
