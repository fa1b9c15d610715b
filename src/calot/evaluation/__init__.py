"""From a trained model to a table of predictions (needs torch)."""
