"""What a tracking process does: whenever the run says so, it sends the rows that the service does not have yet."""

from __future__ import annotations

from collections.abc import Iterable

from calot.tracking.followed import Followed
from calot.tracking.services import Service, Tracker

#: The lines a run writes: a row may be new; the run is complete.
ROW, DONE = "row", "done"


def follow(run: Followed, *, service: Service, lines: Iterable[str]) -> None:
    """Follow a run until `lines` end. Where to begin, the service itself says, so that no kill doubles a step."""
    tracker = service.open(run)
    last, complete = tracker.last_step(), False
    for line in lines:
        complete = complete or line.strip() == DONE
        last = _send(tracker, run, last=last)
    _send(tracker, run, last=last)
    tracker.close(complete=complete)


def _send(tracker: Tracker, run: Followed, *, last: int) -> int:
    """Send what follows step `last`; returns the last step sent. Steps are epochs over all stages, from 1."""
    rows = run.rows()
    for step, row in enumerate(rows, start=1):
        if step > last:
            tracker.write(row, step=step)
    return max(last, len(rows))
