"""The training loop of the gradient tasks and its parts."""
