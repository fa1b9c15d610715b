"""Figures, tables and pages from run folders; never imports torch."""
