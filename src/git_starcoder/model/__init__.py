"""Training and using a model: the only place that needs torch and transformers."""
