"""How a run proves, before and after training, that its declared treatment took effect."""
