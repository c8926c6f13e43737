"""Request and response models: what goes over HTTP, and how strict its JSON is."""
