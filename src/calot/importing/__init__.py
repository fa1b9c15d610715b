"""Other people's checkpoints become runs."""
