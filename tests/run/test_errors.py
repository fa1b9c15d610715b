"""What a user may get wrong, or a disk do to a file: one clear message with a remedy, exit code 2, no stack trace."""

import contextlib
import copy
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import whole_folder
from endoscapes_folder import ALL, HEADER, NO, Folder
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import searched

from calot.cli.main import UNFORESEEN, main
from calot.data.verify import verify
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.run import experiment_file

QUICK = ("--no-receipt", "train.epochs=1", "train.batch=4", "compute.train_subset=4", "--scale", "tiny", "--seeds", "7")


def _fails(*words: str | Path) -> str:
    """Run `calot WORDS` in this process; it must end with exit code 2 and one line for a person, which is returned."""
    out, err = io.StringIO(), io.StringIO()
    command = ["calot", *map(str, words)]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", command),
        pytest.raises(SystemExit) as end,
    ):
        main()
    said = [line for line in err.getvalue().splitlines() if line.startswith("calot: ")]
    assert (end.value.code, len(said)) == (2, 1), err.getvalue() + out.getvalue()
    assert "Traceback" not in err.getvalue()
    assert UNFORESEEN not in said[0]
    return said[0]


def _ends(*words: str | Path) -> int:
    """Run `calot WORDS` in this process; returns its exit code."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        patch.object(sys, "argv", ["calot", *map(str, words)]),
    ):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def _folder(root: Path, *, splits: tuple[str, ...] = ("train", "val")) -> Path:
    folder = Folder(root)
    for number, split in enumerate(splits, start=1):
        folder.video(number, split=split, frames=[0, 25, 50, 75], votes={0: NO, 50: ALL, 75: NO})
    return folder.write_images()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with `data`, of two small videos, and one run trained on it in `run`."""
    home = tmp_path_factory.mktemp("errors")
    _folder(home / "data")
    with (
        contextlib.chdir(home),
        patch.object(sys, "argv", ["calot", "train", "e02_frozen_probe", *QUICK, "--data", "data", "--out", "run"]),
    ):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            main()
        assert (home / "run" / "predictions" / "val.parquet").is_file()
        yield home


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(home / "run", tmp_path / "run"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return _folder(tmp_path / "data")


# ---- tables and folders ----------------------------------------------------------------------------------------------


def _cell(line: int, column: str, value: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "all_metadata.csv"
        lines = path.read_text().splitlines()
        cells = lines[line].split(",")
        cells[HEADER.split(",").index(column)] = value
        lines[line] = ",".join(cells)
        path.write_text("\n".join(lines) + "\n")

    return change


def _edited(change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        path = root / "all_metadata.csv"
        path.write_text(change(path.read_text()))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_edited(lambda text: text.replace("C2", "c_2", 1)), 'all_metadata.csv: column "C2" is missing'),
        (_cell(2, "C1", "nan"), 'line 3: C1 is "nan"; need a label from 0 to 1'),
        (_cell(2, "C1", "1.5"), 'line 3: C1 is "1.5"; need a label from 0 to 1'),
        (_cell(2, "frame", "0"), 'frame "0" stands in the table more than once'),
        (lambda root: (root / "val_vids.txt").unlink(), 'split "val" has no frames'),
        (lambda root: (root / "val_vids.txt").write_text(""), "val_vids.txt: lists no video"),
        (
            lambda root: ((root / "val_vids.txt").unlink(), (root / "val_vids.txt").mkdir()),
            "val_vids.txt: not a readable text file",
        ),
        (_edited(lambda text: text.replace("avg_cvs", "C2", 1)), 'all_metadata.csv: column "C2" appears twice'),
        (_edited(lambda text: text + "1,2,3,4,5,6,7,8,9,10,11,12,13\n"), "all_metadata.csv: not a readable CSV table"),
        (lambda root: (root / "train" / "1_25.jpg").unlink(), "1 of 4 frames are missing: train/1_25.jpg"),
        (
            lambda root: (root / "train" / "1_25.jpg").write_bytes(b"\xff\xd8"),
            "1 of 4 frames cannot be decoded: train/1_25.jpg",
        ),
    ],
    ids=[
        "column",
        "nan",
        "range",
        "duplicate",
        "no split",
        "empty split",
        "list is a folder",
        "column twice",
        "ragged",
        "lost picture",
        "cut picture",
    ],
)
def test_a_damaged_data_set_stops_training_before_a_step(
    data: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(data)
    assert message in _fails("train", "e02_frozen_probe", *QUICK, "--data", data, "--out", tmp_path / "run")


def test_a_split_without_any_positive_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    folder.video(1, split="train", frames=[0, 25], votes={25: ALL}).video(
        2, split="val", frames=[0, 25], votes={25: NO}
    )
    said = _fails("train", "e02_frozen_probe", *QUICK, "--data", folder.write_images(), "--out", tmp_path / "run")
    assert 'split "val" has no positive label' in said


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may read everything, so that a refusal is only seen as somebody else."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no POSIX permissions")
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("closed", [".", "all_metadata.csv", "train_vids.txt"])
def test_what_may_not_be_read_is_named(closed: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        data = _folder(Path(scratch) / "data")
        Path(scratch).chmod(0o755)
        (data / closed).chmod(0)
        with _as_nobody():
            said = _fails("data", "stats", data)
        (data / closed).chmod(0o755)
    assert "ermission denied" in said
    assert str(data) in said


@pytest.mark.parametrize("closed", ["train", "semseg", "train/annotation_coco.json", "train/2_2025.jpg"])
def test_verify_finds_what_may_not_be_read_and_goes_on(closed: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        data = whole_folder.write_whole(Path(scratch) / "data")
        Path(scratch).chmod(0o755)
        (data / "val" / "121_121000.jpg").unlink()
        verify(data)  # as ourselves: nobody may be refused what Python imports late
        (data / closed).chmod(0)
        with _as_nobody():
            found = verify(data).findings
        (data / closed).chmod(0o755)
    files = {finding.file.rstrip("/") for finding in found}
    assert {closed, "val/121_121000.jpg"} <= files


@pytest.mark.parametrize("more", [(), ("--drop-unreadable",)])
def test_a_data_set_that_cannot_be_written_is_used_with_a_cache_elsewhere(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    """A file in the way of `.calot` refuses root, too, on every system."""
    data = whole_folder.write_whole(tmp_path / "data")
    (data / ".calot").write_text("")
    train = ("train", "e08_multitask", *QUICK, *more, "--data", data, "--out", tmp_path / "run")
    train = (*train, "--results", tmp_path)
    said = _fails(*train)
    assert "compute.cache=FOLDER" in said
    assert str(data / ".calot") in said
    assert _ends(*train, f"compute.cache={tmp_path / 'cache'}") == 0
    assert {p.name for p in (tmp_path / "cache").iterdir()} - {"readable"} == {"baselines", "masks", "store"}


# ---- frame store -----------------------------------------------------------------------------------------------------


def _store(root: Path, *words: str) -> tuple[int, dict[str, Any]]:
    out = io.StringIO()
    command = ["calot", "data", "store", str(root), "--size", "16", "--split", "train", "--json", *words]
    with contextlib.redirect_stdout(out), patch.object(sys, "argv", command), pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), json.loads(out.getvalue())["train"]


def test_a_changed_picture_gives_another_store_with_its_own_pixels(data: Path) -> None:
    from PIL import Image

    _, first = _store(data)
    Image.new("RGB", (40, 24), (250, 10, 10)).save(data / "train" / "1_0.jpg")
    code, second = _store(data)
    assert (code, second["path"] != first["path"]) == (0, True)
    old, new = ((Path(s["path"]) / "frames.raw").read_bytes() for s in (first, second))
    frame = 3 * 16 * 16
    assert old[:frame] != new[:frame]
    assert old[frame:] == new[frame:]


def test_damaged_store_bytes_are_found_and_a_cut_store_is_never_read(data: Path) -> None:
    _, made = _store(data)
    pixels = Path(made["path"]) / "frames.raw"
    whole = pixels.read_bytes()
    pixels.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    command = ("data", "store", data, "--size", "16", "--split", "train")
    assert "rows 0..3 were damaged. Delete" in _fails(*command, "--verify")
    pixels.write_bytes(whole[:-1])
    assert "Delete" in _fails(*command)


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_damaged_checkpoint_is_never_scored(home: Path, run: Path, name: str, damage: str, command: str) -> None:
    path = run / "checkpoints" / "best" / name
    whole = path.read_bytes()
    middle = len(whole) // 2
    if damage == "flipped":
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif damage == "cut":
        path.write_bytes(whole[:middle])
    else:
        path.unlink()
    said = _fails(command, run, "--data", home / "data")
    assert "no intact checkpoint here" in said or "checkpoints/best/manifest.json: " in said
    assert "--overwrite" in said


def _at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *parents, last = path.split(".")

    def change(data: dict[str, Any]) -> None:
        for key in parents:
            data = data[key]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("experiment"), "holds no experiment"),
        (lambda d: d.pop("seed"), "seed None is not a whole number"),
        (_at("seed", "7"), "seed: input should be a valid integer"),
        (_at("experiment.train.lr", "fast"), "Stage.lr='fast': expected a number"),
        (_at("experiment.train.epochs", 0), "Stage.epochs=0: expected a whole number from 1"),
        (_at("experiment.train.momentum", 1), "Stage has no field ['momentum']"),
        (_at("experiment.loss._type", "os.system"), "only calot's own components"),
        (_at("experiment.loss._type", "calot.train.losses.Gone"), "has no component of that name here"),
        (_at("experiment.loss", None), "Experiment.loss=None: expected"),
        (_at("experiment.pooling._type", "calot.train.losses.BCE"), "has no component of that name here"),
        (_at("experiment.backbone.width", 256), "was edited"),
        (_at("experiment.backbone.layers", 2), "was edited"),
        (_at("experiment", []), "experiment: input should be a valid dictionary"),
    ],
)
def test_a_mangled_experiment_is_one_clear_error(
    run: Path, damage: Callable[[dict[str, Any]], Any], message: str
) -> None:
    path = run / "experiment.json"
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    said = _fails("evaluate", run)
    assert message in said
    assert str(run) in said


@pytest.mark.parametrize("name", ["experiment.json", "data.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '"x"', "\x00\x01"])
def test_a_runs_files_that_hold_something_else_are_named(run: Path, name: str, content: str) -> None:
    (run / name).write_text(content)
    assert name in _fails("evaluate", run)


_KEYS = st.sampled_from(["_type", "lr", "x"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=2),
    max_leaves=4,
)


@given(place=st.data(), value=_VALUES)
@searched(150, HealthCheck.function_scoped_fixture)
def test_any_experiment_json_is_an_experiment_or_a_clear_error(home: Path, place: st.DataObject, value: Any) -> None:
    content = copy.deepcopy(json.loads((home / "run" / "experiment.json").read_text()))
    node: Any = content
    while True:
        keys = sorted(node) if isinstance(node, dict) else range(len(node))
        key = place.draw(st.sampled_from(list(keys)))
        deeper = isinstance(node[key], (dict, list)) and len(node[key]) and place.draw(st.booleans())
        if not deeper:
            break
        node = node[key]
    node[key] = value
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "experiment.json").write_text(json.dumps(content))
        try:
            experiment, seed = experiment_file.read_experiment(Path(folder))
        except CalotError as error:
            said = str(error)
        else:
            said = "experiment.json"
            assert isinstance(experiment, Experiment)
            assert isinstance(seed, int)
        assert "experiment.json" in said


# ---- weights and devices ---------------------------------------------------------------------------------------------


def _weights(folder: Path, *, layers: int = 4) -> Path:
    """Published weights of the tiny size, as the hub would give them."""
    from dataclasses import replace

    from safetensors.torch import save_file

    from calot.experiment import scaled
    from calot.experiments import find

    spec = replace(scaled(find("e02_frozen_probe").experiment, "tiny").backbone, layers=layers)
    model = spec.build_without_weights().model
    model.config.save_pretrained(folder)
    save_file({k: v for k, v in model.state_dict().items() if v.numel()}, folder / "model.safetensors")
    return folder


def test_weights_of_another_size_name_the_field_and_both_values(data: Path, tmp_path: Path) -> None:
    weights = f"backbone.weights={_weights(tmp_path / 'weights', layers=2)}"
    said = _fails("train", "e02_frozen_probe", weights, *QUICK, "--data", data, "--out", tmp_path / "run")
    assert "num_hidden_layers 2 where the experiment says 4" in said


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", b"{"), ("config.json", b"[]"), ("model.safetensors", b""), ("model.safetensors", None)],
)
def test_damaged_weights_are_named(data: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    path = _weights(tmp_path / "weights") / name
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    weights = f"backbone.weights={path.parent}"
    said = _fails("train", "e02_frozen_probe", weights, *QUICK, "--data", data, "--out", tmp_path / "run")
    assert str(path) in said
    assert "download it again" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(data: Path, tmp_path: Path) -> None:
    said = _fails("train", "e02_frozen_probe", "compute.device=cuda", *QUICK, "--data", data, "--out", tmp_path / "run")
    assert "compute.device=cuda, but torch sees no GPU here; use compute.device=cpu" in said


# ---- stack traces ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_the_stack_trace_and_nothing_else_does(tmp_path: Path, debug: bool) -> None:
    code = "from calot.cli.main import main; main()"
    words = ["metrics", str(tmp_path / "nowhere.parquet"), *(["--debug"] if debug else [])]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == (1 if debug else 2)
    assert ("Traceback (most recent call last)" in done.stderr) is debug
    assert "nowhere.parquet" in done.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), f"calot: {UNFORESEEN} KeyError: 'x'. Run it again with --debug"),
        (OSError("without a file"), f"calot: {UNFORESEEN} OSError: without a file."),
        (ModuleNotFoundError("no calot.x", name="calot.x"), f"calot: {UNFORESEEN} ModuleNotFoundError"),
        (ModuleNotFoundError("no x", name="x"), "calot: this command needs the package 'x'"),
        (MemoryError(), "calot: out of memory (MemoryError). In training lower compute.micro_batch"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nmore"),
            "calot: out of memory (CUDA out of memory.). In training lower",
        ),
        (PermissionError(13, "Permission denied", "x.csv"), "calot: x.csv: Permission denied. Fix its permissions"),
    ],
)
def test_an_error_that_nobody_foresaw_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr("calot.cli.main.app", fails)
    monkeypatch.setattr(sys, "argv", ["calot"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(message)
    monkeypatch.setattr(sys, "argv", ["calot", "--debug"])
    with pytest.raises(type(error)):
        main()


def test_a_run_of_calot_0_1_is_refused_in_one_line_by_what_needs_its_model(run: Path, home: Path) -> None:
    path = run / "experiment.json"
    record = json.loads(path.read_text())
    del record["format"]
    record["experiment"]["segmentation"] = None
    path.write_text(json.dumps(record))
    (run / "seal.json").unlink()  # there was none
    said = _fails("evaluate", run, "--results", home / "results")
    assert "a run of calot 0.1, whose loss and heads had fixed places" in said
