"""`map(fn, operations)` with a short fn: each operation once, whoever maps, and what fails is named."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from short_operations import Short, begun, mapped, short_archive, tables

from calot.archive.engines import Inline
from calot.archive.local import LocalProcesses
from calot.archive.mapping import sweep
from calot.archive.operations import Operation, OperationPlace, attempt
from calot.errors import CalotError
from calot.locking import locked


def test_each_operation_is_scored_once_and_found_finished_by_the_next_start(tmp_path: Path) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log"))
    assert (len((done := mapped(archive)).scored), done.found, done.failed) == (12, [], [])
    again = mapped(archive)
    assert (len(again.found), again.scored) == (12, [])
    assert sorted(map(str, {operation for _, operation in begun(tmp_path / "log")})) == sorted(
        map(str, archive.operations)
    )
    assert len(begun(tmp_path / "log")) == 12


def test_processes_write_the_bytes_of_inline(tmp_path: Path) -> None:
    inline = short_archive(tmp_path / "inline", Short(log=tmp_path / "log"))
    several = short_archive(tmp_path / "several", Short(log=tmp_path / "log2", pause_s=0.05))
    mapped(inline), mapped(several, LocalProcesses(workers=2))
    assert tables(several) == tables(inline)
    assert len(tables(inline)) == 12
    assert len({pid for pid, _ in begun(tmp_path / "log2")}) == 2


def test_equal_ids_in_two_data_sets_have_a_result_each(tmp_path: Path) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log"), count=2)
    mapped(archive)
    found = tables(archive)
    assert sorted(found) == ["operations/root0/0.parquet", "operations/root1/0.parquet"]
    assert len(set(found.values())) == 2


@pytest.mark.parametrize("engine", [Inline(), LocalProcesses(workers=2)], ids=["inline", "processes"])
def test_a_failing_operation_is_named_with_its_file_and_the_others_finish(tmp_path: Path, engine: object) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log", bad=("3",)))
    done = mapped(archive, engine)  # type: ignore[arg-type]
    assert sorted(str(one.operation) for one in done.failed) == ["root0, video 3", "root1, video 3"]
    assert {one.why for one in done.failed} == {"3/frame_7.jpg: cut short"}
    assert len(done.scored) == len(tables(archive)) == 10
    healed = replace(archive, scorer=Short(log=tmp_path / "log"))
    assert (len((again := mapped(healed)).found), len(again.scored)) == (10, 2)


def test_an_operation_that_kills_its_worker_fails_by_name_and_the_others_finish(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("SIGKILL")
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log", deadly=("2",)), count=10)
    archive = replace(archive, operations=[one for one in archive.operations if one != Operation("root1", "2")])
    done = mapped(archive, LocalProcesses(workers=2))
    (failed,) = done.failed
    assert (str(failed.operation), "died 3 times" in failed.why) == ("root0, video 2", True)
    assert len(done.scored) == 8


def test_workers_that_cannot_begin_are_one_error_not_a_failure_of_each_operation(tmp_path: Path) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log", unopened="no such weights"))
    with pytest.raises(CalotError, match="no such weights"):
        mapped(archive, LocalProcesses(workers=2))


@pytest.mark.parametrize("harm", ["truncated", "flipped", "gone", "record"])
def test_a_damaged_result_is_scored_again_to_the_same_bytes(tmp_path: Path, harm: str) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log"))
    mapped(archive)
    before, place = tables(archive), archive.place(archive.operations[5])
    raw = place.table.read_bytes()
    if harm == "truncated":
        place.table.write_bytes(raw[: len(raw) // 2])
    elif harm == "flipped":
        place.table.write_bytes(raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
    elif harm == "gone":
        place.table.unlink()
    else:
        place.record.write_text(place.record.read_text()[:-20])
    done = mapped(archive)
    assert (done.damaged, done.scored, len(done.found)) == ([archive.operations[5]], [archive.operations[5]], 11)
    assert tables(archive) == before


def test_a_table_without_its_record_is_scored_again(tmp_path: Path) -> None:
    """As a kill between the two leaves it."""
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log"))
    mapped(archive)
    before = tables(archive)
    archive.place(archive.operations[0]).record.unlink()
    assert (mapped(archive).scored, tables(archive)) == ([archive.operations[0]], before)


def test_a_folder_of_another_archive_is_refused_by_name(tmp_path: Path) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log"))
    mapped(archive)
    for changed in ({"run": "b" * 64}, {"run": "a" * 64, "data": "c" * 64}):
        with pytest.raises(CalotError, match=r"run: a{12} -> b{12}|data: none -> c{12}"):
            mapped(replace(archive, identity=changed))
    assert len(begun(tmp_path / "log")) == 12


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(CalotError, match="not an archive"):
        mapped(short_archive(tmp_path / "out", Short(log=tmp_path / "log")))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_two_starts_at_once_share_the_operations_and_each_is_scored_once(tmp_path: Path) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log", pause_s=0.02), count=40)
    done = []
    threads = [threading.Thread(target=lambda: done.append(mapped(archive))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [len(one.found) + len(one.scored) for one in done] == [40, 40]
    assert len(done[0].scored) + len(done[1].scored) == len(begun(tmp_path / "log")) == 40
    assert min(len(one.scored) for one in done) > 0


def test_an_operation_that_another_process_has_is_waited_for(tmp_path: Path) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log"), count=4)
    mapped(archive)
    archive.place(archive.operations[1]).record.unlink()
    claim, freed = archive.place(archive.operations[1]).claim, threading.Event()

    def hold() -> None:
        with locked(claim):
            freed.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    threading.Timer(1.0, freed.set).start()
    start = time.monotonic()
    done = mapped(archive)
    holder.join()
    assert (done.scored, len(done.found)) == ([archive.operations[1]], 3)
    assert time.monotonic() - start >= 0.8


def test_ids_become_different_names_inside_the_archives_folder(tmp_path: Path) -> None:
    ids = ["1", "../../x", "a/b", "a%2Fb", "a.b", "ä" * 200, "ä" * 199 + "b", ".", "..", "con:1", "*"]
    places = [OperationPlace(tmp_path, Operation("root", video)).table for video in ids]
    assert len({str(path).casefold() for path in places}) == len(ids)
    assert {path.parent for path in places} == {tmp_path / "operations" / "root"}
    assert max(len(path.name.encode()) for path in places) < 200
    score = Short(log=tmp_path / "log").open()
    assert {str(attempt(Operation("root", v), folder=tmp_path, score=score).state) for v in ids} == {"scored"}


def test_what_kills_left_behind_is_swept_from_a_complete_archive(tmp_path: Path) -> None:
    archive = short_archive(tmp_path / "out", Short(log=tmp_path / "log"), count=2)
    mapped(archive)
    kept = set(tables(archive))
    (archive.folder / "operations" / "root0" / ".0.parquet.1a2b.part").write_text("half")
    (archive.folder / "frames" / "root0" / "0").mkdir(parents=True)
    sweep(archive)
    left = {str(p.relative_to(archive.folder)) for p in archive.folder.rglob("*") if p.is_file()}
    assert left == kept | {name.replace(".parquet", ".json") for name in kept} | {"archive.json", "archive.lock"}
