"""TensorBoard: event files in the run's own folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calot.tracking.followed import Followed


@dataclass(frozen=True)
class EventFiles:
    """A run's event files, of which each process writes one."""

    folder: Path
    writer: Any

    def last_step(self) -> int:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        files = [str(path) for path in sorted(self.folder.glob("events.out.tfevents.*"))]
        return max((event.step for file in files for event in EventFileLoader(file).Load()), default=0)

    def write(self, row: Mapping[str, float], *, step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        values = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
        summary = summary_pb2.Summary(value=values)
        self.writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))
        self.writer.flush()

    def close(self, *, complete: bool) -> None:
        self.writer.close()


@dataclass(frozen=True)
class TensorBoard:
    """Local files; nothing is sent anywhere."""

    package: str = "tensorboard"

    def look(self, run: Followed) -> str:
        return f"tensorboard --logdir {run.place} (or a folder above it, for several runs)"

    def open(self, run: Followed) -> EventFiles:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run.place / "tensorboard"
        return EventFiles(folder, EventFileWriter(str(folder)))


service = TensorBoard()
