"""Text: encoding, tokenizer, near-duplicates."""
