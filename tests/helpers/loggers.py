"""The environment in which every tracking service's package lies (`make loggers`), and what it reads back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(os.environ.get("CALOT_LOGGERS") or Path(sys.prefix) / "loggers")
PYTHON = HOME / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

needs_loggers = pytest.mark.skipif(not PYTHON.exists(), reason="`make loggers` installs the tracking services")

#: What the services say of a run, as {step: {column: value}}; each by its own package's reader.
READERS = {
    "tensorboard": """
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        for file in sorted((run / "tracking" / "tensorboard").iterdir()):
            for event in EventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    numbers = value.tensor.float_val or [value.simple_value]
                    said.append((event.step, value.tag, numbers[0]))
    """,
    "mlflow": """
        from mlflow import MlflowClient
        client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
        found = client.search_runs([client.get_experiment_by_name("calot").experiment_id])
        (one,) = [r for r in found if r.data.tags["calot.run"] == id]
        for name in one.data.metrics:
            if name != "calot.step":
                said += [(m.step, name, m.value) for m in client.get_metric_history(one.info.run_id, name)]
        state["status"], state["params"] = one.info.status, one.data.params
        state["tags"] = one.data.tags
    """,
    "trackio": """
        from trackio.sqlite_storage import SQLiteStorage
        (one,) = [r for r in SQLiteStorage.get_run_records("calot") if r["name"].endswith(id[:6])]
        for row in SQLiteStorage.get_logs("calot", one["name"], run_id=one["id"]):
            step = row.pop("step")
            row.pop("timestamp")
            said += [(step, name, value) for name, value in row.items()]
        state["params"] = SQLiteStorage.get_run_config("calot", one["name"], run_id=one["id"])
    """,
    "wandb": """
        from wandb.proto import wandb_internal_pb2

        def records(data):  # blocks of 32 KB; pieces: checksum (4), length (2), kind (1)
            place, whole = 7, b""
            while place + 7 <= len(data):
                if 32768 - place % 32768 < 7:
                    place += 32768 - place % 32768
                    continue
                length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
                whole += data[place + 7 : place + 7 + length]
                place += 7 + length
                if kind in (1, 4):
                    yield whole
                    whole = b""

        for file in sorted((run / "tracking" / "wandb").glob("offline-run-*/*.wandb")):
            for data in records(file.read_bytes()):
                record = wandb_internal_pb2.Record()
                record.ParseFromString(data)
                items = {(i.key or i.nested_key[0]): json.loads(i.value_json) for i in record.history.item}
                step = items.pop("_step", None)
                said += [(step, name, value) for name, value in items.items() if not name.startswith("_")]
                if record.HasField("exit"):
                    state["exit"] = record.exit.exit_code
                if record.HasField("run"):
                    found = record.run.config.update
                    state["params"] = {(u.key or u.nested_key[0]): json.loads(u.value_json) for u in found}
                    state["host"] = record.run.host
    """,
}

_FRAME = """
import json, sys, textwrap
from pathlib import Path
run, home, id = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
said, state = [], {}
exec(textwrap.dedent(sys.argv[4]))
print(json.dumps([said, state]))
"""


def read_back(service: str, run: Path, *, home: Path) -> tuple[list[tuple[int, str, float]], dict[str, object]]:
    """Every number that a service has of a run, as (step, column, value), and what else it says."""
    id = json.loads((run / "tracking" / "id.json").read_text())["id"]
    command = [str(PYTHON), "-c", _FRAME, str(run), str(home), id, READERS[service]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, state = json.loads(done.stdout.splitlines()[-1])
    return [(int(step), str(name), float(value)) for step, name, value in said], state
