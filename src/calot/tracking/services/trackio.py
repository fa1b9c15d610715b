"""trackio: its own local database; a Space or a server only where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calot.tracking.followed import Followed

_PROJECT = "calot"


@dataclass(frozen=True)
class TrackioRun:
    """An open run of trackio's, and the last step it had when it was opened."""

    run: Any
    last: int

    def last_step(self) -> int:
        return self.last

    def write(self, row: Mapping[str, float], *, step: int) -> None:
        self.run.log(dict(row), step=step)

    def close(self, *, complete: bool) -> None:
        self.run.finish()


@dataclass(frozen=True)
class Trackio:
    """One project, `calot`, with a run for each."""

    package: str = "trackio"

    def look(self, run: Followed) -> str:
        asked = [name for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL") if os.environ.get(name)]
        return f"sent to {os.environ[asked[0]]} ({asked[0]})" if asked else f"trackio show --project {_PROJECT}"

    def open(self, run: Followed) -> TrackioRun:
        import trackio

        opened = trackio.init(
            project=_PROJECT,
            name=f"{run.name} {run.id[:6]}",
            config=dict(run.settings),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return TrackioRun(opened, max(0, opened._next_step - 1))


service = Trackio()
