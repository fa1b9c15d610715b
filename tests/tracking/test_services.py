"""What each tracking service has of a run, read back with its own package: every epoch once, and nothing more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import loggers
import pytest
from loggers import needs_loggers, read_back

from calot.errors import CalotError
from calot.progress import Ui
from calot.tracking.followed import Followed
from calot.tracking.services import service_names, services_named
from calot.tracking.trackers import Trackers, following

SERVICES = tuple(loggers.READERS)
#: MLflow's own start takes seconds, and each test starts it several times.
EACH = [pytest.param(name, marks=[pytest.mark.long] if name == "mlflow" else []) for name in SERVICES]

ROWS = [
    {"stage": "1", "epoch": "1", "train_loss": "0.75", "val_map": "0.25", "val_ap_cystic_plate": ""},
    {"stage": "1", "epoch": "2", "train_loss": "0.5", "val_map": "0.375", "val_ap_cystic_plate": "0.125"},
    {"stage": "2", "epoch": "1", "train_loss": "0.25", "val_map": "0.5", "val_ap_cystic_plate": "0.25"},
]


@dataclass(frozen=True)
class Heard(Ui):
    """What a person is told."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty database, which takes its own package long to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    if loggers.PYTHON.exists():
        code = f"from mlflow import MlflowClient; MlflowClient('sqlite:///{path.as_posix()}').search_experiments()"
        subprocess.run([str(loggers.PYTHON), "-c", code], check=True, capture_output=True)
    return path


@pytest.fixture
def run(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A described run without an epoch, and services that keep what they have below this test's folder."""
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    folder = tmp_path / "results" / "run"
    folder.mkdir(parents=True)
    if database.exists():
        shutil.copy(database, folder.parent)
    weights = {"_type": "VJEPA2", "weights": str(tmp_path / "secret" / "encoder")}
    experiment = {"_type": "Experiment", "backbone": weights, "heads": [{"_type": "Linear", "lr": 0.1}]}
    record = {"name": "e02_frozen_probe", "seed": 3, "scale": "tiny", "fingerprint": "f" * 64, "experiment": experiment}
    (folder / "experiment.json").write_text(json.dumps(record))
    return folder


def _write(run: Path, count: int) -> None:
    lines = [",".join(ROWS[0]), *(",".join(row.values()) for row in ROWS[:count])]
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")


def _expected(count: int) -> list[tuple[int, str, float]]:
    rows = enumerate(ROWS[:count], start=1)
    return sorted((step, k, float(v)) for step, row in rows for k, v in row.items() if v)


def _followed(run: Path, service: str, *, counts: tuple[int, ...], complete: bool = True) -> list[str]:
    """The run written row by row with a process beside it; returns what was said."""
    heard = Heard()
    trackers = Trackers(run, heard)
    trackers.start(service, run=Followed.of(run, home=run.parent), python=str(loggers.PYTHON))
    for count in counts:
        _write(run, count)
        trackers.rows_written()
    trackers.close(complete=complete, wait_s=120)
    return heard.lines


@needs_loggers
@pytest.mark.slow
@pytest.mark.parametrize("service", EACH)
def test_a_service_has_every_epoch_once_although_the_run_was_resumed(run: Path, service: str) -> None:
    said = _followed(run, service, counts=(1, 2), complete=False)
    assert len(said) == 1, said
    before, state = read_back(service, run, home=run.parent)
    assert sorted(before) == _expected(2)
    assert state.get("status", "KILLED") == "KILLED"
    assert state.get("exit", 1) == 1
    _followed(run, service, counts=(2, 3))  # resumed within the third epoch: its first save has the old rows
    after, state = read_back(service, run, home=run.parent)
    assert sorted(after) == _expected(3)
    assert state.get("status", "FINISHED") == "FINISHED"
    assert state.get("exit", 0) == 0
    told = json.dumps(state)
    assert "secret" not in told, "a folder of this machine was sent along"
    if service != "tensorboard":
        assert "encoder" in told
        assert "f" * 64 in told


@needs_loggers
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("service", EACH[:2])
def test_a_tracking_process_that_is_killed_is_said_once_and_loses_nothing(run: Path, service: str) -> None:
    heard = Heard()
    trackers = Trackers(run, heard)
    trackers.start(service, run=Followed.of(run, home=run.parent), python=str(loggers.PYTHON))
    _write(run, 1)
    trackers.rows_written()
    process = trackers.at_work[service]
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for count in (2, 3):
        _write(run, count)
        trackers.rows_written()
    trackers.close(complete=True)
    assert sum("stopped, and the run goes on without it" in line for line in heard.lines) == 1
    _followed(run, service, counts=(3,))
    assert sorted(read_back(service, run, home=run.parent)[0]) == _expected(3)


@pytest.fixture
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """A server of this machine that takes every connection and never answers, with what it was sent."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        held = []
        while True:
            try:
                one, _ = server.accept()
            except OSError:
                return
            held.append(one)
            heard.append(one.recv(200))

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
    server.close()


@needs_loggers
def test_a_server_that_never_answers_does_not_slow_the_run(
    run: Path, listener: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", listener[0])
    heard = Heard()
    trackers = Trackers(run, heard)
    trackers.start("mlflow", run=Followed.of(run, home=run.parent), python=str(loggers.PYTHON))
    process = trackers.at_work["mlflow"]
    until = time.monotonic() + 60
    while not listener[1] and time.monotonic() < until:
        time.sleep(0.1)
    assert listener[1], "MLFLOW_TRACKING_URI was not asked"
    start = time.monotonic()
    for _ in range(40_000):  # more than a pipe holds
        trackers.rows_written()
    assert time.monotonic() - start < 20
    start = time.monotonic()
    trackers.close(complete=True, wait_s=0.3)
    assert time.monotonic() - start < 5
    assert "still sending" in heard.lines[-1]
    process.kill()
    process.wait()


@needs_loggers
def test_a_server_that_refuses_is_said_once_and_the_run_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = _followed(run, "mlflow", counts=(1, 2, 3))
    assert len(said) == 2, said
    assert "--log mlflow: stopped, and the run goes on without it: MlflowException" in said[1]
    assert (run / "tracking" / "mlflow.log").exists()


@needs_loggers
@pytest.mark.slow
@pytest.mark.parametrize("service", EACH)
def test_nothing_leaves_the_machine_unless_asked(
    run: Path, service: str, listener: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All clients honour these proxies, W&B's own process too: whoever asks for another machine asks this one."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, listener[0])
        monkeypatch.setenv(name.upper(), listener[0])
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _followed(run, service, counts=(1, 2, 3))
    assert sorted(read_back(service, run, home=run.parent)[0]) == _expected(3)
    assert listener[1] == []


@needs_loggers
def test_wandb_sends_where_it_is_asked_to(
    run: Path, listener: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round: with WANDB_MODE=online the same set-up is heard, so that the test above can fail."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", listener[0])
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    heard = Heard()
    trackers = Trackers(run, heard)
    trackers.start("wandb", run=Followed.of(run, home=run.parent), python=str(loggers.PYTHON))
    process = trackers.at_work["wandb"]
    until = time.monotonic() + 60
    while not listener[1] and time.monotonic() < until:
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert listener[1]
    assert "WANDB_MODE=online" in heard.lines[0]


def test_every_service_is_tested_and_has_an_extra_of_its_name() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert service_names() == sorted(SERVICES)
    assert set(SERVICES) <= project["optional-dependencies"].keys()


def test_an_unknown_service_is_refused_with_the_nearest() -> None:
    with pytest.raises(CalotError, match=r'--log tensorbord: no such service. Did you mean "tensorboard"\?'):
        services_named("tensorbord")
    with pytest.raises(CalotError, match="tensorboard is named twice"):
        services_named("tensorboard,tensorboard")
    assert services_named(None) == ()


def test_no_process_is_started_where_nobody_asked(run: Path) -> None:
    with following(run, services=(), home=run.parent, ui=Heard()) as trackers:
        trackers.rows_written()
    assert [path.name for path in run.iterdir()] == ["experiment.json"]
