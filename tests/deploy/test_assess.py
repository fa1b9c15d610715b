"""A whole operation in: the same scores as its frames' own, every planted fault named, nothing lost by a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import Done, calot
from numpy.typing import NDArray
from recordings import LOSSLESS, LOSSY, Picture, blended, record, turn
from theatres import RATE, Theatre

from calot.criteria import CRITERIA
from calot.data.geometry import Squash
from calot.data.sources import frames_at
from calot.deploy import assess as module
from calot.deploy.assess import AssessRequest, assess_operation
from calot.deploy.operation import operation_clips
from calot.deploy.sampling import OperationReader
from calot.errors import Stopped
from calot.evaluation.predict import score
from calot.pipeline import load_run
from calot.progress import Silent
from calot.run.device import make_accelerator
from calot.run.signals import Stopper
from calot.statistics.assessment import Assessment
from calot.statistics.calls import Call
from calot.statistics.predictions import load_predictions

pytestmark = pytest.mark.slow  # two seeds are trained first


def assessed(theatre: Theatre, *recordings: Path, out: Path, words: tuple[Any, ...] = ()) -> Assessment:
    done = run(theatre, *recordings, out=out, words=words)
    assert done.returncode == 0, done.stderr
    return Assessment.read(out)


def run(theatre: Theatre, *recordings: Path, out: Path, words: tuple[Any, ...] = ()) -> Done:
    return calot("assess", theatre.seeds[0], *recordings, "--out", out, *map(str, words), cwd=out.parent)


def logits_of(made: Assessment) -> NDArray[np.float32]:
    return made.scores.select([f"logit_{name}" for name in CRITERIA]).to_numpy()


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(theatre: Theatre, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lossless recording, assessed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assessed(theatre, theatre.recording, out=out)
    return out


def of_frames(theatre: Theatre) -> tuple[list[int], NDArray[np.float32]]:
    """Seconds and logits of the operation's own predictions, from its folder of frames."""
    own = load_predictions(theatre.seeds[0] / "predictions" / "val.parquet")
    rows = np.flatnonzero(own.videos == theatre.video)
    return [(int(own.frames[row]) - theatre.numbers[0]) // 25 for row in rows], own.logits[rows]


def test_a_lossless_recording_gives_the_logits_of_the_folder_of_frames(theatre: Theatre, whole: Path) -> None:
    made = Assessment.read(whole)
    seconds, expected = of_frames(theatre)
    assert len(seconds) >= 4
    assert made.scores["time"].to_list() == [float(s) for s in range(len(theatre.pictures))]
    np.testing.assert_allclose(logits_of(made)[seconds], expected, atol=1e-4)
    assert made.facts["faults"] == []
    assert made.facts["recordings"][0]["rate"] == RATE


def test_a_lossy_recording_differs_by_what_compression_explains(theatre: Theatre, tmp_path: Path) -> None:
    path = record(tmp_path / "lossy.mp4", blended(theatre.pictures, rate=RATE), **LOSSY)
    made = assessed(theatre, path, out=tmp_path / "out")
    seconds, expected = of_frames(theatre)
    spread = float(np.ptp(expected, axis=0).max())
    off = float(np.abs(logits_of(made)[seconds] - expected).max())
    assert 0 < off < 0.5 * spread, (off, spread)


def test_each_clip_alone_has_the_logits_of_the_whole_video(theatre: Theatre, whole: Path, tmp_path: Path) -> None:
    experiment, model, _ = load_run(theatre.seeds[0])
    reader = OperationReader(recordings=[theatre.recording], work=tmp_path, geometry=experiment.geometry, size=64)
    clips = operation_clips(
        reader.read(lambda a, b: None), work=tmp_path, experiment=experiment, name="x", seamless=False, every=1
    )
    own = logits_of(Assessment.read(whole))
    for place in (0, 1, 5, len(own) - 1):
        alone = score(
            model, dataset=clips, accelerator=make_accelerator(experiment.compute), batch_size=1,
            indices=np.array([place]),
        )  # fmt: skip
        np.testing.assert_allclose(alone.logits[0], own[place], atol=1e-5)


def test_a_later_second_changes_nothing_of_an_earlier_one(theatre: Theatre, whole: Path, tmp_path: Path) -> None:
    short = record(tmp_path / "short.mp4", blended(theatre.pictures[:9], rate=RATE), **LOSSLESS)
    made = assessed(theatre, short, out=tmp_path / "out", words=("--every", 2))
    assert made.scores["time"].to_list() == [0.0, 2.0, 4.0, 6.0, 8.0]
    np.testing.assert_allclose(logits_of(made), logits_of(Assessment.read(whole))[:9:2], atol=1e-5)


@pytest.mark.parametrize(("every", "lasting"), [(1, 9), (2, 9), (5, 9), (100_000_000_000, 9)])
def test_a_moment_stands_no_longer_than_its_recording(
    theatre: Theatre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, lasting: int
) -> None:
    monkeypatch.setattr("calot.deploy.outcome.calls_of", lambda mean, **how: [[Call.achieved] * len(mean)] * 3)
    short = record(tmp_path / "short.mp4", blended(theatre.pictures[:9], rate=RATE), **LOSSLESS)
    made = assessed(theatre, short, out=tmp_path / "out", words=("--every", every))
    assert set(made.facts["achieved_seconds"].values()) == {lasting}
    assert made.facts["all_achieved_seconds"] == lasting


def test_only_the_recording_that_was_assessed_is_reviewed(theatre: Theatre, tmp_path: Path) -> None:
    short, other = (
        record(tmp_path / f"{n}.mp4", blended(theatre.pictures[n : n + 9], rate=RATE), **LOSSLESS) for n in (0, 1)
    )
    out = tmp_path / "out"
    assessed(theatre, short, out=out)
    page = (out / "review.html").read_bytes()
    (tmp_path / "F").write_text("hi")
    for wrong in (other, tmp_path / "F"):
        done = calot("review", out, wrong, cwd=tmp_path)
        assert done.returncode == 2
        assert f"{wrong}: is not the recording that was assessed" in done.stderr
    assert (out / "review.html").read_bytes() == page
    assert calot("review", out, short.rename(tmp_path / "moved.mp4"), cwd=tmp_path).returncode == 0
    (tmp_path / "marks.csv").write_bytes("operation,criterion\nZürich,".encode("cp1252"))
    done = calot("review", out, tmp_path / "moved.mp4", "--marks", tmp_path / "marks.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "marks.csv: is not UTF-8 text" in done.stderr


def test_files_in_a_row_are_one_operation_and_seamless_ones_are_one_recording(
    theatre: Theatre, whole: Path, tmp_path: Path
) -> None:
    shown = blended(theatre.pictures, rate=RATE)
    one = record(tmp_path / "1.mp4", shown[:42], **LOSSLESS)  # ends half way through a second
    two = record(tmp_path / "2.mp4", [(time - 10.5, picture) for time, picture in shown[42:]], **LOSSLESS)
    made = assessed(theatre, one, two, out=tmp_path / "seamless", words=("--seamless",))
    own = logits_of(Assessment.read(whole))
    np.testing.assert_allclose(logits_of(made), own, atol=1e-5)
    assert made.scores.filter(pl.col("time") == 11.0)["file_time"].item() == 0.5
    apart = assessed(theatre, one, two, out=tmp_path / "apart")
    assert apart.scores["file"].to_list()[10:12] == [1, 2]
    assert apart.facts["recordings"][1]["begins"] == 11.0
    np.testing.assert_allclose(logits_of(apart)[:11], own[:11], atol=1e-5)
    assert np.abs(logits_of(apart)[11:14] - own[11:14]).max() > 1e-4, "clips of the second file begin anew"


def test_frames_are_taken_by_time_at_any_rate(theatre: Theatre, tmp_path: Path) -> None:
    """What is kept of each second is what the reader by time, which training uses, shows then."""
    rng, time, shown = np.random.default_rng(4), 0.0, []
    for _ in range(60):
        shown.append((round(time, 3), rng.integers(0, 255, (48, 64, 1), dtype=np.uint8).repeat(3, axis=2)))
        time += float(rng.choice([0.02, 0.04, 0.3, 0.7]))
    path = record(tmp_path / "uneven.mp4", shown, **LOSSLESS)
    reader = OperationReader(recordings=[path], work=tmp_path, geometry=Squash(), size=32)
    found = reader.read(lambda done, total: None)
    times = [frame.time for frame in found.frames]
    assert times == [float(s) for s in range(len(times))]
    assert len(times) >= 12
    kept = np.fromfile(tmp_path / "frames.raw", dtype=np.uint8).reshape(len(times), 3, 32, 32)
    for own, image in zip(kept, frames_at(path, times), strict=True):
        np.testing.assert_array_equal(own, Squash()(image, size=32).transpose(2, 0, 1))
    assert "variable rate" in {fault.kind for fault in found.files[0].faults}


def planted(theatre: Theatre) -> list[tuple[float, Picture]]:
    """28 s: live to 5, black to 9, live to 12, frozen to 17, live to 19, a cut, a gap from 22 to 25, another rate."""
    pictures = [theatre.pictures[i % 18] for i in range(28)]
    shown = blended(pictures, rate=10)
    black, still = np.zeros_like(pictures[0]), pictures[12]
    made = []
    for time, picture in shown:
        if 5 <= time < 9:
            picture = black
        elif 12 <= time < 17:
            picture = still
        elif time >= 19:
            picture = picture[::-1, ::-1, ::-1] if time < 22 else picture
        if 22 <= time < 25 or (time >= 26 and round(time * 10) % 3):
            continue
        made.append((time, picture))
    return made


def test_every_planted_fault_is_listed_with_its_span(theatre: Theatre, tmp_path: Path) -> None:
    path = turn(record(tmp_path / "faulty.mp4", planted(theatre), **LOSSLESS))
    done = run(theatre, path, out=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    made = Assessment.read(tmp_path / "out")
    spans = {fault["kind"]: (fault["start"], fault["end"]) for fault in made.facts["faults"]}
    assert set(spans) == {"rotated", "black", "frozen", "cut", "gap", "variable rate"}, made.facts["faults"]
    assert spans["black"] == (5, 9)
    np.testing.assert_allclose(spans["frozen"], (12, 17), atol=0.2)
    assert spans["gap"] == (22.0, 25.0)
    assert {f["start"] for f in made.facts["faults"] if f["kind"] == "cut"} == {19.0}
    np.testing.assert_allclose(spans["variable rate"], (26, 28), atol=0.4)
    assert made.facts["recordings"][0]["size"] == [854, 480], "upright"
    states = dict(zip(made.scores["time"].to_list(), made.scores["state"].to_list(), strict=True))
    assert [s for s, state in states.items() if state == "black"] == [5, 6, 7, 8]
    assert [s for s, state in states.items() if state == "frozen"] == [13, 14, 15, 16]
    assert not {22.0, 23.0, 24.0} & set(states), "nothing was recorded then"
    reasons = {(s["reason"], s["start"], s["end"]) for s in made.facts["not_assessable"] if s["criterion"] is None}
    assert {("black", 5.0, 9.0), ("frozen", 13.0, 17.0), ("gap", 22.0, 25.0)} <= reasons
    for kind in spans:
        assert f"{kind}: " in done.stdout


def test_a_picture_is_turned_as_its_file_says(theatre: Theatre, tmp_path: Path) -> None:
    shown = [(t / 5, theatre.pictures[t // 5]) for t in range(20)]
    path = turn(record(tmp_path / "turned.mp4", shown, **LOSSLESS))
    np.testing.assert_array_equal(next(frames_at(path, [0.0])), np.rot90(theatre.pictures[0], -1))


def test_a_file_cut_short_is_a_finding_and_what_is_there_is_scored(theatre: Theatre, tmp_path: Path) -> None:
    path = record(tmp_path / "a.mkv", blended(theatre.pictures, rate=RATE), **LOSSY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = run(theatre, path, out=tmp_path / "out")
    assert done.returncode == 1, done.stderr
    made = Assessment.read(tmp_path / "out")
    assert [fault["kind"] for fault in made.incomplete][-1] == "truncated"
    assert 3 < made.scores.height < len(theatre.pictures) - 2


class Interrupted(Stopper):
    """A stopper that a signal reaches at the `count`th time that somebody asks."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count

    def check(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stopped


@pytest.mark.parametrize("half_written", [False, True])
def test_what_was_stopped_goes_on_to_the_same_bytes(
    half_written: bool, theatre: Theatre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording with every fault, so that what a fault is told by outlives the stop, too."""
    film = record(tmp_path / "film.mp4", planted(theatre), **LOSSLESS)
    request = AssessRequest(runs=theatre.seeds[:1], recordings=(film,), out=tmp_path / "out")
    assess_operation(replace(request, out=tmp_path / "whole"), ui=Silent(), stopper=Stopper())
    monkeypatch.setattr("calot.deploy.sampling._CHUNK", 5)
    monkeypatch.setattr(module, "_SAVED", 1)
    stops = 0
    for count in (1, 2, 2, 1, 2):
        try:
            assess_operation(request, ui=Silent(), stopper=Interrupted(count))
        except Stopped:
            stops += 1
        work = request.out / "work"
        if half_written and (work / "journal.jsonl").exists():
            with (work / "journal.jsonl").open("a") as file:
                file.write('{"sha256": "12')
            with (work / "frames.raw").open("ab") as file:
                file.write(b"half a frame")
    assert stops >= 4
    assess_operation(request, ui=Silent(), stopper=Stopper())
    assert files_in(request.out) == files_in(tmp_path / "whole")


def test_a_second_start_reads_back_what_is_finished_and_other_settings_are_refused(
    theatre: Theatre, whole: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    before = files_in(out)
    done = run(theatre, theatre.recording, out=out)
    assert "assessed already" in done.stderr
    assert files_in(out) == before
    for words in (("--held", 7), ("--every", 2), ("--name", "op 7"), ("--no-abstain",)):
        done = run(theatre, theatre.recording, out=out, words=words)
        assert done.returncode == 2
        assert "holds another assessment (other " in done.stderr


def test_nothing_of_a_file_but_its_pictures_is_copied_on(theatre: Theatre, tmp_path: Path) -> None:
    """Names in tags and in the file's own name, dates, places: in no byte that is written."""
    secrets = {"title": "MUELLER^HANS", "comment": "born 1961-04-02", "creation_time": "2019-03-04T05:06:07Z",
               "location": "+52.3759+009.7320/", "artist": "Dr. Who"}  # fmt: skip
    path = record(
        tmp_path / "Hans Mueller 1961.mp4", blended(theatre.pictures[:8], rate=RATE), tags=secrets, **LOSSLESS
    )
    assert b"MUELLER^HANS" in path.read_bytes()
    assessed(theatre, path, out=tmp_path / "out", words=("--unlinked",))
    words = [*secrets.values(), "Mueller", "Hans", "2019-03-04", "52.3759"]
    for name, data in files_in(tmp_path / "out").items():
        assert [w for w in words if w.encode() in data or w in name] == [], name
    assert len(files_in(tmp_path / "out" / "stills")) >= 3


def test_several_seeds_are_averaged_and_show_their_spread(theatre: Theatre, whole: Path, tmp_path: Path) -> None:
    one = logits_of(Assessment.read(whole))
    swapped = replace(theatre, seeds=theatre.seeds[::-1])
    two = logits_of(assessed(swapped, theatre.recording, out=tmp_path / "two"))
    made = assessed(theatre, theatre.recording, out=tmp_path / "both", words=("--with", theatre.seeds[1]))
    np.testing.assert_allclose(logits_of(made), (one + two) / 2, atol=1e-6)
    for k, name in enumerate(CRITERIA):
        np.testing.assert_array_equal(made.scores[f"logit_{name}_low"], np.minimum(one, two)[:, k])
        np.testing.assert_array_equal(made.scores[f"logit_{name}_high"], np.maximum(one, two)[:, k])


def test_what_cannot_be_assessed_is_one_clear_line(theatre: Theatre, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("x")
    op, out = theatre.recording, tmp_path / "out"
    cases = [
        ((tmp_path / "none.mp4",), (), out, "no such file"),
        ((tmp_path,), (), out, "a folder, not a file. Give the recordings"),
        ((tmp_path / "text.mp4",), (), out, "not a readable video"),
        ((tmp_path / "empty.mp4",), (), out, "not a readable video"),
        ((op, op), (), out, "given twice"),
        ((op,), ("--held", "nan"), out, "--held"),
        ((op,), ("--held", -1), out, "--held"),
        ((op,), ("--name", " "), out, "--name is empty"),
        ((op,), ("--coverage", 1.5), out, "coverage"),
        ((op,), ("--with", theatre.seeds[0]), out, "given twice"),
        ((op,), (), tmp_path / "full", "holds something else (letter.txt)"),
    ]
    for recordings, words, place, message in cases:
        done = run(theatre, *recordings, out=place, words=words)
        assert done.returncode == 2, (message, done)
        assert message in done.stderr, (message, done.stderr)
        assert "Traceback" not in done.stderr
    broken = Path(shutil.copytree(theatre.seeds[0], tmp_path / "broken"))
    shutil.rmtree(broken / "checkpoints")
    done = calot("assess", broken, op, "--out", out, cwd=tmp_path)
    assert done.returncode == 2
    assert "Train it to its end" in done.stderr


def test_json_is_what_assess_json_holds(theatre: Theatre, whole: Path) -> None:
    done = run(theatre, theatre.recording, out=whole, words=("--json",))
    told = json.loads(done.stdout)
    assert told.pop("out") == str(whole)
    assert told == Assessment.read(whole).facts
    assert "Not a medical device" in told["notice"]
