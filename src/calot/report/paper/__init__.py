"""What a paper needs, from a folder of runs alone: tables, figures, methods, references, checklists and cards."""
