"""Search for good settings with Optuna: each trial is a run in a process of its own."""
