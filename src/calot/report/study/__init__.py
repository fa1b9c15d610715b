"""The document of a whole study, from its folder of runs alone: HTML, and a Markdown twin with the same numbers."""
