"""The phantom: procedural operations in the exact Endoscapes layout, with known truth. Scores on it mean nothing
clinically."""

from calot.data.phantom.audit import AuditReport, audit
from calot.data.phantom.labels import VideoLabels, simulate_labels
from calot.data.phantom.spec import PhantomSpec, PhantomSummary
from calot.data.phantom.write import generate

__all__ = ["AuditReport", "PhantomSpec", "PhantomSummary", "VideoLabels", "audit", "generate", "simulate_labels"]
