"""Reading Git objects without trusting the repository."""
