"""What a model is, asked of its own code: transformers' config class and modules, built without weights."""
