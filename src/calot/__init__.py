"""Calot: Critical View of Safety classifiers whose every printed result can be defended."""

__version__ = "0.1.0"
