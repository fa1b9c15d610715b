"""The whole study in one command: which experiments, in which order, at what cost, and what came of them."""
