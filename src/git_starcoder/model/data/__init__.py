"""What a model trains on: the rows of a dataset, the plan of all steps, packing, and the token budget.

`corpus` holds the rows as arrays, `plan` decides which rows each step trains on, `packing` puts the rows of a step into
micro-batches, and `token_budget` accounts for every token. Nothing here needs torch.
"""
