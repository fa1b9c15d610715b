"""`verify`: everything that is wrong with a folder in the Endoscapes layout, in one pass, nothing raised early."""

from calot.data.verify.finding import CheckedFolder, Finding, Note
from calot.data.verify.folder import verify

__all__ = ["CheckedFolder", "Finding", "Note", "verify"]
