"""The command line as a user meets it: exit codes, messages, no stack traces."""

import json
from pathlib import Path

import pytest
from command_line import calot as _calot

from calot.cli.main import UNFORESEEN

QUICK = ("--no-receipt", "train.epochs=1", "train.batch=8", "compute.train_subset=8")


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with one run in `results/e02_frozen_probe/run_...`."""
    home = tmp_path_factory.mktemp("home")
    done = _calot("train", "e02_frozen_probe", *QUICK, "--data", phantom, "--scale", "tiny", "--seeds", "7", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "Next: calot report" in done.stdout
    return home


def _run(home: Path) -> Path:
    (run,) = (home / "results" / "e02_frozen_probe").glob("run_*_s7")
    return run


def test_train_ends_with_predictions_a_report_and_a_line_in_the_ledger(trained: Path) -> None:
    run = _run(trained)
    assert (run / "report.html").stat().st_size > 10_000
    assert list((run / "figures" / "clips" / "val").glob("*.jpg"))
    (line,) = (trained / "results" / "ledger.jsonl").read_text().splitlines()
    assert json.loads(line)["event"] == "predicted"


def test_metrics_of_a_run_print_the_promised_json(trained: Path) -> None:
    done = _calot("metrics", _run(trained) / "predictions" / "val.parquet", "--json", cwd=trained)
    found = json.loads(done.stdout)
    assert {"map", "ap", "brier", "videos", "frames"} <= set(found)
    assert {"value", "low", "high"} <= set(found["map"])
    assert all({"value", "low", "high", "prevalence"} <= set(v) for v in found["ap"].values())


def test_every_opening_of_test_is_counted_and_printed(trained: Path) -> None:
    for count in (1, 2):
        done = _calot("evaluate", _run(trained), "--split", "test", cwd=trained)
        assert done.returncode == 0, done.stderr
        assert f"test opened for this data set: {count} time" in done.stderr
    assert "Test has been opened 2 times" in (_run(trained) / "report.html").read_text()


def test_test_is_not_opened_by_predict(trained: Path, phantom: Path) -> None:
    done = _calot("predict", _run(trained), "--data", phantom, "--split", "test", cwd=trained)
    assert (done.returncode, "evaluate RUN --split test" in done.stderr) == (2, True)


def test_an_equal_result_of_another_treatment_is_called_invalid(trained: Path, phantom: Path) -> None:
    """A weight of one is another declared treatment that changes nothing: the study's e06, planted again."""
    change = ("loss.pos_weight=[1,1,1]", *QUICK)
    words = ("train", "e02_frozen_probe", *change, "--data", phantom, "--scale", "tiny", "--seeds", "7")
    done = _calot(*words, "--out", trained / "noop", cwd=trained)
    assert "INVALID: another treatment gave the very same predictions" in done.stderr
    compared = _calot("compare", _run(trained), trained / "noop", cwd=trained)
    assert (compared.returncode, "INVALID" in compared.stdout) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "e02_frozn", "--data", "."), 'Did you mean "e02_frozen_probe"'),
        (("train", "--data", ".", "train.lr=1"), "name at least one experiment"),
        (("train", "e02_frozen_probe", "--data", "nowhere", "--scale", "tiny"), "nowhere"),
        (("train", "e02_frozen_probe", "--data", ".", "--scale", "huge"), "choose full or tiny"),
        (("train", "e02_frozen_probe", "--data", ".", "--seeds", "a"), "--seeds"),
        (("train", "e02_frozen_probe", "--data", ".", "--seeds", ","), "--seeds ','"),
        (("train", "e02_frozen_probe", "--data", ".", "--seeds", "0,-1"), "-1 is not a seed"),
        (("train", "e02_frozen_probe", "--data", ".", "--seeds", "1,2,1"), "1 is not a seed; expected numbers from 0"),
        (("train", "e02_frozen_probe", "--data", ".", "--seeds", "9" * 30), "is not a seed"),
        (("train", "e02_frozen_probe", "--data", ".", "--dry-run", "--price-per-hour", "nan"), "--price-per-hour nan"),
        (("train", "leaves.py", "--data", "."), "leaves.py: SystemExit: 0"),
        (("train", "e02_frozen_probe", "--data", ".", "--out", "leaves.py"), "leaves.py: Not a directory"),
        (("data", "store", ".", "--size", "0"), "--size"),
        (("data", "verify", ".", "--workers", "-1"), "--workers"),
        (("data", "phantom", "new", "--mean-frames", "nan"), "mean_frames=nan"),
        (("data", "phantom", "new", "--seed", "-1"), "seed=-1"),
        (("train", "e02_frozen_probe", "lr=1", "--data", "."), "unknown key 'lr'"),
        (("metrics", "nowhere.parquet"), "nowhere.parquet"),
        (("evaluate", "nowhere"), "nowhere"),
        (("report", "nowhere"), "nowhere"),
        (("data", "stats", "nowhere"), "nowhere"),
        (("data", "stats", ".", "--protocol", "keyframe"), 'Did you mean "keyframes"'),
        (("experiments", "show", "e3"), "no experiment 'e3'"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_code_2(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    done = _calot(*words, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert message in done.stderr
    assert UNFORESEEN not in done.stderr


def test_a_figure_of_an_unknown_kind_names_the_kinds(phantom: Path, tmp_path: Path) -> None:
    done = _calot("data", "stats", phantom, "--figure", "stats.xyz", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "stats.xyz: a figure cannot be a .xyz file. Available:" in done.stderr


def test_a_folder_where_a_file_must_be_is_named(trained: Path, phantom: Path, tmp_path: Path) -> None:
    done = _calot("predict", _run(trained), "--data", phantom, "--out", tmp_path, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert f"{tmp_path}: a folder stands where a file must be" in done.stderr


def test_full_size_without_weights_names_both_remedies(phantom: Path, tmp_path: Path) -> None:
    done = _calot("train", "e02_frozen_probe", "--data", phantom, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "backbone.weights=FOLDER" in done.stderr
    assert "--scale tiny" in done.stderr


def test_statistics_of_a_folder_of_tables_alone(phantom: Path, tmp_path: Path) -> None:
    for path in (phantom / "all_metadata.csv", *phantom.glob("*_vids.txt")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    done = _calot("data", "stats", ".", "--protocol", "all-frames", "--json", cwd=tmp_path)
    splits = json.loads(done.stdout)["splits"]
    expected = {"frames", "keyframes", "videos", "positives", "negative_per_positive", "all_negative", "all_positive"}
    assert set(splits) == {"train", "val", "test"}
    assert all(expected <= set(s) for s in splits.values())


def test_predictions_of_another_data_set_do_not_replace_a_runs_own(
    trained: Path, several_val: Path, tmp_path: Path
) -> None:
    own = _run(trained) / "predictions" / "val.parquet"
    record = trained / "results" / "ledger.jsonl"
    before, recorded = own.read_bytes(), record.read_bytes()
    for command in (("predict",), ("evaluate", "--split", "test")):
        done = _calot(command[0], _run(trained), *command[1:], "--data", several_val, cwd=trained)
        assert (done.returncode, "its predictions are of another data set" in done.stderr) == (2, True)
    assert own.read_bytes() == before
    assert record.read_bytes() == recorded
    out = tmp_path / "other.parquet"
    done = _calot("predict", _run(trained), "--data", several_val, "--out", out, cwd=trained)
    assert (done.returncode, out.is_file(), own.read_bytes() == before) == (0, True, True)


def test_a_run_that_ends_invalid_is_a_finding(phantom: Path, tmp_path: Path) -> None:
    quick = [word for word in QUICK if word != "--no-receipt"]
    inert = ("e06_c2_weighted", "loss.pos_weight=[1,1,1]", "--despite-receipt", "--out", "run")
    done = _calot("train", *inert, *quick, "--data", phantom, "--scale", "tiny", cwd=tmp_path)
    assert (done.returncode, "INVALID, see receipt.json: run" in done.stdout) == (1, True)
    assert (tmp_path / "run" / "report.html").is_file()
