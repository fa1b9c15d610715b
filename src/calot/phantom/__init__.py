"""The phantom: procedural operations in the exact Endoscapes layout, with known truth. Scores on it mean nothing
clinically."""

from calot.phantom.audit import AuditReport, audit
from calot.phantom.labels import VideoLabels, simulate_labels
from calot.phantom.spec import PhantomSpec, PhantomSummary
from calot.phantom.write import generate

__all__ = ["AuditReport", "PhantomSpec", "PhantomSummary", "VideoLabels", "audit", "generate", "simulate_labels"]
