"""A finished run at work: whole operations in, timelines out; exported, or teaching a smaller model."""
