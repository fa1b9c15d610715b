"""What archives need, by hand; and that its constants are measured."""

import json
from pathlib import Path

import pytest
from command_line import calot

from calot.bench.scale import ARCHIVES, ArchiveSize, Constants


def test_ten_thousand_operations_by_hand() -> None:
    constants = Constants(
        jpeg_s=0.006, second_s=0.0333, clip_tflop=1.656, frame_bytes=196_608, tokens_bytes=4_194_304, gpu_tflops=395.8
    )
    (archive,) = (a for a in ARCHIVES if a.operations == 10_000)
    found = constants.needs(archive)
    assert (found["frames"], found["clips"]) == (36_000_000, 7_200_000)
    assert found["decode_core_h"] == pytest.approx(333, rel=0.001)
    assert found["gpu_h"] == pytest.approx(7_200_000 / 239 / 3600, rel=0.001)
    assert found["hours_on_8_gpus"] == pytest.approx(found["gpu_h"] / 8)
    assert found["cores_per_gpu"] == pytest.approx(333 / 8.37, rel=0.01)
    assert found["store_bytes"] == 36_000_000 * 256 * 256 * 3
    assert found["tokens_bytes"] == 7_200_000 * 8 * 16 * 16 * 1024 * 2


def test_jpegs_cost_a_frame_and_recordings_a_second() -> None:
    constants = Constants(jpeg_s=1.0, second_s=10.0, clip_tflop=1.0, frame_bytes=1, tokens_bytes=1, gpu_tflops=1.0)
    rows = [
        constants.needs(ArchiveSize(name="a", operations=2, seconds=1800, stride=1, recorded=recorded))["decode_core_h"]
        for recorded in (False, True)
    ]
    assert rows == [1.0, 10.0]


@pytest.mark.slow
@pytest.mark.long
def test_constants_are_measured_on_this_machine(tmp_path: Path) -> None:
    done = calot("bench", "scale", "--gpu-tflops", "100", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    given = found["constants"]
    assert 0.0005 < given["jpeg_s"] < 0.1
    assert given["jpeg_s"] < given["second_s"] < 2.0
    assert given["clip_tflop"] == pytest.approx(1.656, abs=0.001)
    assert given["gpu_tflops"] == 100.0
    assert [row["archive"] for row in found["rows"]] == [a.name for a in ARCHIVES]
    assert "| 10,000 operations | 36,000,000 | 7,200,000 |" in calot("bench", "scale", cwd=tmp_path).stdout
