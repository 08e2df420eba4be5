"""Writes the files of a dataset: rows as JSON lines or Parquet, metadata, facts about the code, and the card."""
