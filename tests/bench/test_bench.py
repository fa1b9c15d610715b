"""Every bench on tiny sizes: ours equals the naive way, a planted difference is caught, the JSON says it all."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calot.bench import footage as footage_module
from calot.bench import loader, pooling
from calot.bench.gpu import SHARES
from calot.bench.side_by_side import Aside, Contest, ExactnessCheck, Outcome, Seconds, compete, largest_difference
from calot.cli import bench as command
from calot.cli.main import main
from calot.data.preparation import Preparation
from calot.data.store import FrameStore
from calot.models import attention_statistics
from calot.models.backbones.view import View
from calot.models.pooling import AttentivePool
from calot.models.windows import WindowPartition
from calot.statistics.resampling import WeightedAP

BENCHES = ("loader", "store", "preprocess", "pooling", "bootstrap", "window", "entropy")
HEADER = "vid,frame,C1,C2,C3,is_ds_keyframe,cvs_annotator_1,cvs_annotator_2,cvs_annotator_3"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 24 frames in the Endoscapes layout, 60 x 100 px of noise."""
    root = tmp_path_factory.mktemp("footage")
    rows = []
    for video, split in ((1, "train"), (2, "val")):
        (root / split).mkdir()
        (root / f"{split}_vids.txt").write_text(f"{video:.9e}\n")
        for frame in range(0, 24 * 25, 25):
            noise = np.random.default_rng([video, frame]).integers(0, 256, (60, 100, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / split / f"{video}_{frame}.jpg", quality=90)
            rows.append(f'{video},{frame},0,0,0,True,"[0, 0, 0]","[0, 0, 0]","[0, 0, 0]"')
    (root / "all_metadata.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root


@pytest.fixture
def calot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `calot WORDS` in this process: its exit code and what it printed."""

    def run(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["calot", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().out

    return run


def words(bench: str, root: Path) -> list[str]:
    return ["bench", bench, "--quick", *(["--data", str(root)] if bench in ("loader", "store") else [])]


@pytest.mark.parametrize("bench", BENCHES)
def test_each_bench_is_exact_and_its_json_holds_every_field(
    bench: str, root: Path, calot: Callable[..., tuple[int, str]]
) -> None:
    before = sorted(root.rglob("*"))
    code, out = calot(*words(bench, root), "--json")
    found = json.loads(out)
    assert code == 0
    assert sorted(root.rglob("*")) == before, "the data that is read is left as it was"
    assert found["bench"] == bench
    assert found["exactness"]["exact"] is True
    assert 0 <= found["exactness"]["largest_difference"] <= found["exactness"]["tolerance"]
    if bench in ("loader", "store"):
        assert found["exactness"]["tolerance"] == 0, "pixels are equal to the bit"
    assert found["ratio"] == pytest.approx(found["naive_s"] / found["ours_s"])
    assert found["reached"] is (found["ratio"] >= found["target"])
    assert found["settings"]["cores"] >= 1
    assert found["settings"]["threads"] == 1
    assert found["settings"]["quick"] is True


def plant(bench: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ours a little wrong."""
    read, fold, weigh, norm = FrameStore.read, AttentivePool._folded_query, WeightedAP.__call__, View.normalise
    whole, entropy = WindowPartition.whole, attention_statistics.attention_entropy

    def other_read(self: FrameStore, rows: Any, **named: Any) -> Any:
        pixels = read(self, rows, **named)
        pixels[..., 0, 0] ^= 1
        return pixels

    planted: dict[str, tuple[object, str, Any]] = {
        "loader": (FrameStore, "read", other_read),
        "store": (FrameStore, "read", other_read),
        "preprocess": (View, "normalise", lambda self, video, **named: norm(self, video, **named).add_(1e-5)),
        "pooling": (AttentivePool, "_folded_query", lambda self: fold(self) * (1 + 1e-9)),
        "bootstrap": (WeightedAP, "__call__", lambda self, weights: weigh(self, weights) + 1e-9),
        "window": (WindowPartition, "whole", lambda self, x: whole(self, x) + 1e-4),
        "entropy": (attention_statistics, "attention_entropy", lambda qk: entropy(qk) + 1e-4),
    }
    target, name, value = planted[bench]
    monkeypatch.setattr(target, name, value)


@pytest.mark.parametrize("bench", BENCHES)
def test_a_planted_difference_exits_with_1_and_is_never_timed(
    bench: str, root: Path, calot: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(bench, monkeypatch)
    code, out = calot(*words(bench, root), "--json")
    found = json.loads(out)
    assert code == 1
    assert found["exactness"]["exact"] is False
    assert found["exactness"]["largest_difference"] > found["exactness"]["tolerance"]
    assert (found["naive_s"], found["ours_s"], found["ratio"], found["reached"]) == (None, None, None, False)
    code, out = calot(*words(bench, root))
    assert code == 1
    assert "NOT EXACT" in out
    assert "Not timed" in out


def test_a_person_reads_exactness_before_the_ratio_and_the_next_command(calot: Callable[..., tuple[int, str]]) -> None:
    code, out = calot("bench", "bootstrap", "--quick")
    assert code == 0
    assert out.index("exact:") < out.index("ratio") < out.index("Next: calot bench")
    assert "target 50x" in out
    assert "timed on 0.1 of the work" in out


@pytest.mark.long
def test_all_of_them_make_one_table(calot: Callable[..., tuple[int, str]]) -> None:
    code, out = calot("bench", "all", "--quick", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert {
        *BENCHES,
        "features",
        "layer-cache",
        "heads",
        "observing",
        "train",
        "start",
        *(f"gpu --part {part}" for part in SHARES),
        "window --shifted",
        "window --backward",
    } == rows.keys()
    assert all({"exactness", "naive_s", "ours_s", "ratio", "target"} <= row.keys() for row in rows.values())


def test_one_that_differs_ends_the_table_with_1(
    calot: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: command._SMALL[name] for name in ("preprocess", "pooling", "window")}
    monkeypatch.setattr(command, "_SMALL", few)
    plant("pooling", monkeypatch)
    code, out = calot("bench", "all", "--quick")
    assert code == 1
    assert "| preprocess | yes | " in out
    assert "| pooling | NO | - | - | - | 20 |" in out


def test_the_group_names_its_benches(calot: Callable[..., tuple[int, str]]) -> None:
    out = calot("bench", "--help")[1]
    assert [name for name in BENCHES if f"│ {name} " in out] == list(BENCHES)


def contest(**changes: Any) -> Contest:
    base = Contest(
        bench="x",
        work="w",
        naive_way="n",
        our_way="o",
        target=2.0,
        repeats=3,
        checks=lambda: (ExactnessCheck(what="all", difference=0.0, tolerance=0.0),),
        naive=lambda: None,
        ours=lambda: None,
    )
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize("plain", [True, False])
def test_naive_and_ours_take_turns_after_untimed_calls(plain: bool) -> None:
    """Ours begins anew after each plain naive call, which starts from memory given back."""
    calls: list[str] = []
    expected = "aabb" + ("abb" if plain else "ab") * 2
    compete(contest(naive=lambda: calls.append("a"), ours=lambda: calls.append("b"), repeats=3, plain=plain))
    assert "".join(calls) == expected


def test_a_share_of_the_naive_work_is_scaled_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([float(t) for t in range(100)])  # every clock reading is one second after the last
    monkeypatch.setattr("calot.bench.side_by_side.time.perf_counter", lambda: next(ticks))
    outcome = compete(contest(naive_share=0.1, repeats=1))
    assert outcome.ratio == pytest.approx(10.0)
    assert outcome.reached


def test_the_target_is_reached_at_the_target_and_not_below_it() -> None:
    checks = (ExactnessCheck(what="all", difference=0.0, tolerance=0.0),)
    ours = Seconds(runs=(1.0, 1.0, 9.0))
    at = Outcome(contest=contest(), checks=checks, naive=Seconds(runs=(2.0,)), ours=ours)
    below = dataclasses.replace(at, naive=Seconds(runs=(1.99,)))
    assert (at.reached, below.reached) == (True, False)


def test_the_json_shows_the_check_that_strains_its_tolerance_most() -> None:
    checks = (
        ExactnessCheck(what="loose", difference=1e-6, tolerance=1e-5),
        ExactnessCheck(what="tight", difference=9e-13, tolerance=1e-12),
    )
    assert Outcome(contest=contest(), checks=checks).to_dict()["exactness"]["tolerance"] == 1e-12


def test_a_difference_that_is_no_number_is_not_exact_and_still_json() -> None:
    checks = (ExactnessCheck(what="lost", difference=math.nan, tolerance=1.0),)
    found = Outcome(contest=contest(), checks=checks).to_dict()
    assert found["exactness"]["exact"] is False
    assert json.loads(json.dumps(found, allow_nan=False))["exactness"]["largest_difference"] is None


def test_largest_difference_takes_undefined_in_both_as_equal_and_in_one_as_different() -> None:
    assert largest_difference([1.0, math.nan], [1.25, math.nan]) == 0.25
    assert math.isnan(largest_difference([1.0, math.nan], [1.0, 0.0]))
    assert largest_difference([1.0], [1.0, 1.0]) == math.inf
    assert largest_difference(np.array([0], dtype=np.uint8), np.array([255], dtype=np.uint8)) == 255


def test_an_aside_without_a_time_has_a_reason_and_no_ratio() -> None:
    told = Aside(name="cold", what="from disk", seconds=None, reason="no such call").to_dict(naive_s=1.0)
    assert told == {"what": "from disk", "s": None, "ratio": None, "reason": "no such call"}


def test_a_system_that_cannot_drop_its_page_cache_says_so(
    root: Path, calot: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(loader.os, "posix_fadvise", raising=False)
    cold = json.loads(calot(*words("loader", root), "--json")[1])["asides"]["cold"]
    assert cold["s"] is None
    assert "cannot drop" in cold["reason"]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no figure is cold on this system")
def test_a_figure_is_not_cold_when_the_bytes_came_from_memory(
    root: Path, calot: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_drop", lambda path: None)
    cold = json.loads(calot(*words("loader", root), "--json")[1])["asides"]["cold"]
    assert cold["s"] is None
    assert "stayed in memory" in cold["reason"]


@pytest.mark.long
def test_without_data_a_phantom_is_rendered_and_thrown_away() -> None:
    with footage_module.footage(None, frames=54) as seen:
        assert seen.manifest.dataset == "phantom"
        assert seen.clips.frames.shape == (54, 16)
        assert seen.open_clip(0).shape == (16, 3, 256, 256)
    assert not seen.scratch.exists()


def test_the_textbook_pool_has_the_state_dict_of_ours() -> None:
    naive = pooling.TextbookPool(width=16, heads=2, dropout=0.0).state_dict()
    ours = AttentivePool(width=16, heads=2, dropout=0.0).state_dict()
    assert {name: value.shape for name, value in naive.items()} == {name: value.shape for name, value in ours.items()}


@pytest.mark.long
@pytest.mark.parametrize("bench", ["observing", "features", "layer-cache", "heads"])
def test_looking_on_and_cached_features_change_no_bit(
    bench: str, calot: Callable[..., tuple[int, str]], phantom: Path
) -> None:
    code, out = calot("bench", bench, "--data", phantom, "--quick", "--json")
    found = json.loads(out)
    assert code == 0
    assert {c["largest_difference"] for c in found["exactness"]["checks"]} == {0.0}


def test_features_of_the_wrong_view_are_not_exact(
    calot: Callable[..., tuple[int, str]], phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmirrored(self: Preparation, clips: np.ndarray, **_: int) -> np.ndarray:
        return np.zeros(len(clips), dtype=np.int64)

    monkeypatch.setattr(Preparation, "drawn", unmirrored)
    code, out = calot("bench", "features", "--data", phantom, "--quick")
    assert (code, "NOT EXACT: weights after an epoch" in out) == (1, True)


@pytest.mark.parametrize("kind", ["shifted", "backward"])
def test_windows_are_exact_in_every_form_and_a_forgotten_wall_is_caught(
    kind: str, calot: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out = calot("bench", "window", "--quick", f"--{kind}")
    assert code == 0
    assert "2 x 2 (windows of 2 x 2, " in out
    monkeypatch.setattr("calot.models.windows.WALL", 0.0)
    code, out = calot("bench", "window", "--quick", "--shifted")
    assert code == 1
    assert "NOT EXACT" in out
