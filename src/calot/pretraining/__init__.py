"""Learning an encoder from video alone: which tokens are hidden, what is predicted, and whether it collapses."""
