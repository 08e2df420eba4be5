"""The nine steps of the pipeline, one module each: read, analyse, split, augment, window, dedup, weigh, order, write.

Four modules hold a part of a step: `read_changes` (history, for read), `gate` (for split), `learn_tokenizer` (for
window), and `tasks` (batches and cached results, for all).
"""
