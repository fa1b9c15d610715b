"""Everything computed from a table of predictions; never imports torch."""
