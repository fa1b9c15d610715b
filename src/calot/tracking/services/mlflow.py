"""MLflow: the server that MLFLOW_TRACKING_URI names, else a database beside the ledger of results."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from calot.locking import locked
from calot.tracking.followed import Followed

_PROJECT, _TAG, _LAST = "calot", "calot.run", "calot.step"
#: MLflow's own limits: characters of a value, parameters of one request.
_LONGEST, _MOST = 500, 100


def _address(run: Followed) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run.home / 'mlflow.db').as_posix()}"


@dataclass(frozen=True)
class MlflowRun:
    """A run of MLflow's by its id; `calot.step` is written with each step, and says which was the last."""

    client: Any
    id: str

    def last_step(self) -> int:
        return max((metric.step for metric in self.client.get_metric_history(self.id, _LAST)), default=0)

    def write(self, row: Mapping[str, float], *, step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in (*row.items(), (_LAST, float(step)))]
        self.client.log_batch(self.id, metrics=metrics)

    def close(self, *, complete: bool) -> None:
        self.client.set_terminated(self.id, "FINISHED" if complete else "KILLED")


@dataclass(frozen=True)
class Mlflow:
    """One experiment, `calot`, with a run for each; no user name, path or host goes along."""

    package: str = "mlflow"

    def look(self, run: Followed) -> str:
        address = _address(run)
        if "://" in address and not address.startswith("sqlite:"):
            return f"sent to {address} (MLFLOW_TRACKING_URI)"
        return f"mlflow ui --backend-store-uri {address} (needs the whole of mlflow)"

    def open(self, run: Followed) -> MlflowRun:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow import MlflowClient

        run.home.mkdir(parents=True, exist_ok=True)
        local = "MLFLOW_TRACKING_URI" not in os.environ
        with locked(run.home / "mlflow.lock") if local else nullcontext():  # several runs may make the database
            client = MlflowClient(tracking_uri=_address(run))
            project = client.get_experiment_by_name(_PROJECT)
            number = client.create_experiment(_PROJECT) if project is None else project.experiment_id
        found = client.search_runs([number], filter_string=f"tags.`{_TAG}` = '{run.id}'")
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return MlflowRun(client, found[0].info.run_id)
        made = client.create_run(number, tags={_TAG: run.id}, run_name=run.name)
        _set_params(client, made.info.run_id, settings=run.settings)
        return MlflowRun(client, made.info.run_id)


def _set_params(client: Any, run_id: str, *, settings: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    # MLflow's keys admit no brackets
    named = [(k.replace("[", ".").replace("]", "").rstrip("."), v[:_LONGEST] or "-") for k, v in settings.items()]
    for start in range(0, len(named), _MOST):
        client.log_batch(run_id, params=[Param(key, value) for key, value in named[start : start + _MOST]])


service = Mlflow()
