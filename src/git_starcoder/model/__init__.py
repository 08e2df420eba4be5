"""Training and using a model. Only here are torch and transformers imported, and only when they are needed."""
