"""`calot explain` on a run as a user has it: parts by name, clips by id, files, one page, the seal."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from command_line import calot
from run_requests import requested, trained

from calot.provenance.custody import require_sealed, seal
from calot.report.explaining.sections import PARTS, section_named

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def probe(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen probe, sealed."""
    run = trained(requested(phantom, tmp_path_factory.mktemp("explained") / "run", "e02_frozen_probe"))
    seal(run)
    return run


def test_every_part_has_both_its_files() -> None:
    from calot.cli.explain import part_named

    for name in PARTS:
        assert part_named(name).name == name
        assert section_named(name).name == name


def test_parts_stay_beside_those_asked_for_later(probe: Path, tmp_path: Path) -> None:
    done = calot("explain", probe, "--parts", "samples", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert list(told["parts"]) == ["samples"]
    folder = Path(told["folder"])
    assert folder == probe / "analysis" / "explain_val"
    rows = pl.read_csv(folder / "samples_clips.csv")
    scores = pl.read_parquet(probe / "predictions" / "val.parquet")
    assert rows.height == scores.height == sum(told["parts"]["samples"]["right"].values())
    text = (folder / "explain.html").read_text(encoding="utf-8")
    assert "Phantom data" in text
    assert rows["clip"][0] in text
    require_sealed(probe)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--parts", "sample"), 'Did you mean "samples"?'),
        (("--clip", "nothing_1"), "Videos:"),
        (("--clip", "nothing"), "VIDEO_FRAME"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest(
    probe: Path, tmp_path: Path, words: tuple[str, str], said: str
) -> None:
    done = calot("explain", probe, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_frame_names_the_nearest_of_its_video(probe: Path, tmp_path: Path) -> None:
    scores = pl.read_parquet(probe / "predictions" / "val.parquet")
    video, frame = scores["video"][0], int(scores["frame"][0])
    done = calot("explain", probe, "--clip", f"{video}_{frame + 1}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"The nearest of that video is {video}_{frame}." in done.stderr
