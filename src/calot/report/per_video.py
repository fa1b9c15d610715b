"""The table of videos."""

from __future__ import annotations

from calot.report.tables import Table
from calot.statistics.calibration import Thresholds
from calot.statistics.predictions import Predictions


def video_table(predictions: Predictions, *, thresholds: Thresholds | None) -> tuple[Table | None, str]:
    return None, ""
