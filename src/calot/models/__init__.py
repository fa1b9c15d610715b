"""The backbone, what adapts it, and what reads it."""
