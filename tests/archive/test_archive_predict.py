"""`calot predict` over an archive with a real model: equal bytes, refusals by name, failures by name, recordings."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import killing
import numpy as np
import polars as pl
import psutil
import pytest
from command_line import Done, calot
from plain_table import frames_folder
from run_requests import requested, trained

from calot.archive import ray_data
from calot.errors import CalotError
from calot.statistics.predictions import load_predictions


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "run"
    return trained(requested(phantom, folder, "e02_frozen_probe", changes=("train.epochs=1",)))


@pytest.fixture(scope="module")
def roots(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two data sets of the same videos' ids, both called `data`, with nothing decoded."""
    home, found = tmp_path_factory.mktemp("roots"), []
    for hospital in ("north", "south"):
        copy = shutil.copytree(phantom, home / hospital / "data", ignore=shutil.ignore_patterns(".calot"))
        found.append(Path(copy))
    return found


def score(run: Path, roots: list[Path], out: Path, *words: str, split: str = "train") -> Done:
    data = [word for root in roots for word in ("--data", str(root))]
    return calot("predict", run, *data, "--split", split, "--out", out, *words, cwd=out.parent)


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))}


@pytest.fixture(scope="module")
def inline(run: Path, roots: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive as one process scores it."""
    out = tmp_path_factory.mktemp("inline") / "out"
    done = score(run, roots, out, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["operations"], summary["scored"], summary["failed"]) == (10, 10, [])
    assert sorted(summary["tables"].values()) == sorted(map(str, out.glob("*.parquet")))
    return out


@pytest.mark.long
@pytest.mark.slow
def test_processes_and_inline_write_equal_bytes_with_a_real_model(
    run: Path, roots: list[Path], inline: Path, tmp_path: Path
) -> None:
    done = score(run, roots, tmp_path / "out", "--engine", "processes", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "out") == bytes_of(inline)
    assert len(bytes_of(inline)) == 2


@pytest.mark.long
@pytest.mark.slow
def test_ray_and_inline_write_equal_bytes_with_a_real_model(
    run: Path, roots: list[Path], inline: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray.data", reason="Ray is not installed: pip install 'calot[archive]'")
    before = signal.getsignal(signal.SIGTERM)
    done = score(run, roots, tmp_path / "out", "--engine", "ray", "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored"] == 10
    assert bytes_of(tmp_path / "out") == bytes_of(inline)
    assert signal.getsignal(signal.SIGTERM) == before


def test_ray_reports_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CalotError, match="not installed"):
        ray_data._imported()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_equal_ids_of_two_roots_are_kept_apart(inline: Path) -> None:
    tables = [load_predictions(path) for path in sorted(inline.glob("*.parquet"))]
    assert [path.stem[:5] for path in inline.glob("*.parquet")] == ["data-", "data-"]
    assert [len(set(table.videos.tolist())) for table in tables] == [5, 5]
    records = [json.loads(path.read_text())["value"] for path in inline.glob("operations/*/*.json")]
    assert len({(record["root"], record["video"]) for record in records}) == 10


def test_an_archive_says_what_predict_says(run: Path, roots: list[Path], inline: Path, tmp_path: Path) -> None:
    """The same rows and labels; logits up to the rounding of another batch."""
    plain = tmp_path / "plain.parquet"
    assert calot("predict", run, "--data", roots[0], "--split", "train", "--out", plain, cwd=tmp_path).returncode == 0
    archived, usual = load_predictions(sorted(inline.glob("*.parquet"))[0]), load_predictions(plain)
    logits = [name for name in usual.frame.columns if name.startswith("logit_")]
    assert archived.frame.drop(logits).equals(usual.frame.drop(logits))
    np.testing.assert_allclose(archived.logits, usual.logits, atol=1e-5)
    assert (archived.fingerprint, archived.manifest_hash) == (usual.fingerprint, usual.manifest_hash)
    shutil.rmtree(roots[0] / ".calot")


def test_a_frame_store_that_is_there_is_used_and_gives_the_same_bytes(
    run: Path, roots: list[Path], inline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [Path(shutil.copytree(root, tmp_path / root.parent.name / "data")) for root in roots[:1]]
    usual = tmp_path / "plain.parquet"
    assert calot("predict", run, "--data", copies[0], "--split", "train", "--out", usual, cwd=tmp_path).returncode == 0
    monkeypatch.setattr("calot.archive.scoring.open_store", None)  # nothing is decoded
    done = score(run, copies, tmp_path / "out", "--engine", "inline")
    assert done.returncode == 0, done.stderr
    (found,) = bytes_of(tmp_path / "out").values()
    assert found in bytes_of(inline).values()


def test_a_finished_archive_scores_nothing_again(run: Path, roots: list[Path], inline: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(inline, tmp_path / "out"))
    done = score(run, roots[::-1], out, "--json")  # in another order on the command line
    assert (json.loads(done.stdout)["found"], json.loads(done.stdout)["scored"]) == (10, 0)
    assert bytes_of(out) == bytes_of(inline)
    left = {path.name for path in out.rglob("*") if path.suffix in (".lock", ".part")}
    assert left == {"archive.lock"}


def test_another_run_is_refused(phantom: Path, roots: list[Path], inline: Path, tmp_path: Path) -> None:
    other = trained(requested(phantom, tmp_path / "run", "e02_frozen_probe", changes=("train.epochs=1",), seed=1))
    before = bytes_of(inline)
    done = score(other, roots, inline)
    assert (done.returncode, "not the same archive" in done.stderr, "seed: 0 -> 1" in done.stderr) == (2, True, True)
    assert bytes_of(inline) == before


def test_another_split_and_fewer_data_sets_are_refused(run: Path, roots: list[Path], inline: Path) -> None:
    done = score(run, roots, inline, split="val")
    assert (done.returncode, "split: train -> val" in done.stderr) == (2, True)
    done = score(run, roots[:1], inline, "--engine", "inline")
    assert (done.returncode, "data: " in done.stderr) == (2, True)


@pytest.fixture
def one(run: Path, roots: list[Path], tmp_path: Path) -> tuple[Path, Path]:
    """A data set of this test's own, and the archive scored on it."""
    root = Path(shutil.copytree(roots[0], tmp_path / "mine"))
    out = tmp_path / "out"
    assert score(run, [root], out, "--engine", "inline").returncode == 0
    return root, out


def image_of(root: Path, *, video: str) -> Path:
    return sorted((root / "train").glob(f"{video}_*.jpg"))[0]


def test_changed_images_of_a_finished_operation_are_refused(run: Path, one: tuple[Path, Path]) -> None:
    root, out = one
    first = image_of(root, video="1")
    os.utime(first, (1, 1))  # the same content under another time is no change
    assert score(run, [root], out, "--engine", "inline").returncode == 0
    size, raw = first.stat().st_size, bytearray(first.read_bytes())
    raw[-3] ^= 1
    first.write_bytes(raw)
    assert first.stat().st_size == size
    done = score(run, [root], out, "--engine", "inline")
    assert done.returncode == 2
    assert "the images of video 1 changed since it was scored" in done.stderr


def test_changed_labels_are_refused(run: Path, one: tuple[Path, Path]) -> None:
    root, out = one
    path = root / "all_metadata.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")  # a frame fewer
    done = score(run, [root], out, "--engine", "inline")
    assert (done.returncode, "not the same archive" in done.stderr, "mine" in done.stderr) == (2, True, True)


def test_a_damaged_result_is_redone_with_a_real_model(run: Path, one: tuple[Path, Path]) -> None:
    root, out = one
    before = bytes_of(out)
    place = sorted(out.glob("operations/*/*.parquet"))[2]
    place.write_bytes(place.read_bytes()[:200])
    done = score(run, [root], out, "--engine", "inline", "--json")
    summary = json.loads(done.stdout)
    assert (summary["damaged"], summary["scored"], summary["found"]) == (1, 1, 4)
    assert "damaged, scoring it again" in done.stderr
    assert bytes_of(out) == before


def test_another_operations_table_under_a_name_is_redone(run: Path, one: tuple[Path, Path]) -> None:
    """A file and its record swapped with another operation's: both whole, and both in the wrong place."""
    root, out = one
    before = bytes_of(out)
    first, second = sorted(out.glob("operations/*/*.parquet"))[:2]
    for suffix in (".parquet", ".json"):
        shutil.copy(first.with_suffix(suffix), second.with_suffix(suffix))
    done = score(run, [root], out, "--engine", "inline", "--json")
    assert json.loads(done.stdout)["damaged"] == 1
    assert bytes_of(out) == before


def test_a_bad_image_fails_its_operation_alone_by_name(run: Path, roots: list[Path], tmp_path: Path) -> None:
    root, out = Path(shutil.copytree(roots[0], tmp_path / "mine")), tmp_path / "out"
    bad = image_of(root, video="3")
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    gone = image_of(root, video="5")
    kept = gone.read_bytes()
    gone.unlink()
    done = score(run, [root, roots[1]], out, "--json")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["scored"], sorted(summary["tables"])) == (1, 8, ["data"])
    assert [one["video"] for one in summary["failed"]] == ["3", "5"]
    assert bad.name in summary["failed"][0]["why"]
    assert gone.name in summary["failed"][1]["why"]
    assert "FAILED: mine, video 3" in done.stderr
    assert not (out / "mine.parquet").exists()
    bad.write_bytes(whole)
    gone.write_bytes(kept)
    done = score(run, [root, roots[1]], out, "--json")
    assert (done.returncode, json.loads(done.stdout)["scored"], json.loads(done.stdout)["found"]) == (0, 2, 8)
    assert (out / "mine.parquet").exists()


def test_what_goes_with_an_archive_alone_is_refused_elsewhere(run: Path, roots: list[Path], tmp_path: Path) -> None:
    root, out = ("--data", roots[0]), ("--out", tmp_path / "out")
    movie = tmp_path / "operation.MP4"
    movie.write_bytes(b"")
    cases = {
        "need --out": [*root, "--engine", "inline"],
        "--json goes with": [*root, "--json"],
        "--tta goes with one --data": [*root, *root, "--tta", "flip", *out],
        "given twice": [*root, *root, *out],
        "are not read yet": [*root, "--data", movie, *out],
        "opened by `calot evaluate": [*root, "--engine", "inline", "--split", "test", *out],
        "--workers goes with": [*root, "--engine", "inline", "--workers", "2", *out],
    }
    for said, words in cases.items():
        done = calot("predict", run, *words, cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (2, True), (said, done.stderr)
    done = calot("predict", run, "--data", movie, cwd=tmp_path)
    assert (done.returncode, "are not read yet" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_ray_that_is_not_installed_is_one_clear_line(
    run: Path, roots: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = score(run, roots, tmp_path / "out", "--engine", "ray")
    assert done.returncode == 2
    assert "pip install 'calot[archive]'" in done.stderr.splitlines()[-1]


def test_operations_without_labels_are_scored(run: Path, tmp_path: Path) -> None:
    """A folder whose table names frames of two operations and no labels."""
    root = frames_folder(tmp_path / "bare")
    table = pl.read_csv(root / "labels.csv", infer_schema=False)
    table.select("video", "split", "frame").write_csv(root / "labels.csv")
    done = score(run, [root], tmp_path / "out", "--engine", "inline", split="val")
    assert done.returncode == 0, done.stderr
    found = load_predictions(tmp_path / "out" / "bare.parquet")
    assert (found.labelled, len(set(found.videos.tolist()))) == (False, 2)


WORDS = ("--split", "train", "--json")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork")
def test_kills_of_a_real_models_archive_change_no_byte(
    run: Path, roots: list[Path], inline: Path, tmp_path: Path
) -> None:
    """Kills before file events of an inline start, then of a worker of another start; then it is let finish."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*killing.WARM, "calot.archive.predictions"])
    out, log = tmp_path / "out", tmp_path / "log"
    data = [word for root in roots for word in ("--data", str(root))]
    words = ["predict", str(run), *data, *WORDS, "--out", str(out)]
    for event in (3, 30, 45, 52, 7, 61):
        process = context.Process(target=killing._calot, args=(words, str(log), event, None))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, log.read_text()[-2000:]
    started = subprocess.Popen(
        [sys.executable, "-m", "calot", *words, "--engine", "processes", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _kill_one_at_work(started, out)
    said, errors = started.communicate(timeout=300)
    assert started.returncode == 0, errors
    assert json.loads(said)["found"] > 0
    assert bytes_of(out) == bytes_of(inline)
    assert list(out.rglob("*.part")) == []


def _kill_one_at_work(started: subprocess.Popen[str], out: Path) -> None:
    """SIGKILL to the first worker that holds a claim."""
    while started.poll() is None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(started.pid).children():
                if any(f"{out / 'claims'}" in file.path for file in child.open_files()):
                    return child.kill()
        time.sleep(0.005)
    raise AssertionError("no worker was seen at work")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_a_signal_ends_an_archive_with_75_and_the_same_command_continues(
    run: Path, roots: list[Path], inline: Path, tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "out"
    data = [word for root in roots for word in ("--data", str(root))]
    words = ["predict", str(run), *data, *WORDS, "--out", str(out), "--engine", engine]
    command = [sys.executable, "-m", "calot", *words]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while started.poll() is None and not list(out.glob("operations/*/*.json")):
        time.sleep(0.005)
    os.killpg(started.pid, signal.SIGTERM)
    _, said = started.communicate(timeout=120)
    assert started.returncode == 75, said
    assert ("of 10 operations finished. Run the same command again" in said, "Traceback" in said) == (True, False)
    done = score(run, roots, out, "--json")
    assert (done.returncode, json.loads(done.stdout)["found"] > 0) == (0, True)
    assert bytes_of(out) == bytes_of(inline)
