"""What lies in the folder of a dataset, beside its manifest: one module for each kind of file, and what they share."""
