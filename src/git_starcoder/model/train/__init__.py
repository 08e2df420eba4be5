"""Training: `training` is the entry point, `loop` runs the steps, and `optimizer` is one step.

Before the first step, `preflight` checks that training can work and searches the batch size; `dry_run` does only that.
`checkpoint` makes a run resumable, `metrics` records it, and `distributed` shares a step among processes.
"""
