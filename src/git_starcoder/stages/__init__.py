"""The nine steps, one module each."""
