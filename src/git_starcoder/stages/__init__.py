"""The nine steps of the pipeline, one module each: read, analyse, split, augment, window, dedup, weigh, order, write.

Two modules hold a part of a step: `history_gate` (for split) and `learn_tokenizer` (for window).
"""
