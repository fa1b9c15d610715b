"""Scoring an archive: one `map(fn, operations)`, by one process, by several, or by Ray; the same bytes from each."""
