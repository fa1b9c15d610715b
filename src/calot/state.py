"""Where calot keeps its records of a user, whatever folder they work in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: The folder of calot's records for a user, in place of the system's usual one.
STATE = "CALOT_STATE"


def state_folder() -> Path:
    """Where calot keeps its records of a user's data sets: `CALOT_STATE`, else the system's place for such things."""
    if given := os.environ.get(STATE):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "calot"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "calot"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "calot"
