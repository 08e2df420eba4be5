"""Training and using a model. Only here are torch and transformers imported, and only when they are needed.

`data/` has what a model trains on, `net/` the network, `train/` the training. `evaluate` and `complete` use a model.
"""
