"""The phantom: procedural operations in the exact Endoscapes layout, with known truth. Scores on it mean nothing
clinically."""

from calot.phantom.audit import AuditReport, audit
from calot.phantom.labels import VideoLabels, simulate_labels
from calot.phantom.recipes import PRETRAINING_SEED, RECIPES, recipe_named
from calot.phantom.spec import PhantomSpec, PhantomSummary
from calot.phantom.write import generate

__all__ = [
    "PRETRAINING_SEED",
    "RECIPES",
    "AuditReport",
    "PhantomSpec",
    "PhantomSummary",
    "VideoLabels",
    "audit",
    "generate",
    "recipe_named",
    "simulate_labels",
]
