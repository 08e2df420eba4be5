"""Trains and uses models. Only here are torch and transformers imported, and only when they are needed."""
