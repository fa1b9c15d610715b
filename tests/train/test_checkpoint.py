import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from calot.errors import CalotError
from calot.train import checkpoint


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(3, 3), nn.Linear(3, 2)


def _trained() -> tuple[Small, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = Small()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        model.head(model.backbone(torch.randn(4, 3))).square().sum().backward()
        optimiser.step()
    return model, optimiser


def _save(folder: Path, model: Small, optimiser: torch.optim.Optimizer | None, epoch: int = 1) -> None:
    tensors = checkpoint.model_tensors(model, published=False)
    checkpoint.save(folder, tensors=tensors, optimiser=optimiser, progress={"epoch": epoch})


def test_weights_and_optimiser_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, optimiser = _trained()
    _save(tmp_path / "last", model, optimiser)
    found = checkpoint.load(tmp_path / "last")
    other, fresh = Small(), None
    checkpoint.load_into(other, found.tensors, where=tmp_path)
    fresh = torch.optim.AdamW(other.parameters(), lr=0.5)
    fresh.load_state_dict(found.optimiser)
    for a, b in ((model, other),):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    for p, q in zip(optimiser.state.values(), fresh.state.values(), strict=True):
        assert all(torch.equal(p[k], q[k]) for k in p)
    assert fresh.param_groups[0]["lr"] == 0.1


def test_frozen_published_weights_are_not_saved_again() -> None:
    model = Small()
    model.backbone.requires_grad_(False)
    assert set(checkpoint.model_tensors(model, published=True)) == {"head.weight", "head.bias"}
    assert "backbone.weight" in checkpoint.model_tensors(model, published=False)


def _kept(folder: Path, *, said: list[str] | None = None) -> checkpoint.Checkpoints:
    return checkpoint.Checkpoints(folder, every_s=600.0, say=(said if said is not None else []).append)


def _progress(*, epoch: int, best: int, stage: int = 0) -> dict[str, int]:
    return {"stage": stage, "epoch": epoch, "best_epoch": best}


def _two_epochs(folder: Path) -> checkpoint.Checkpoints:
    """Two epochs saved as a run does; the second was no better than the first."""
    model, optimiser = _trained()
    tensors = checkpoint.model_tensors(model, published=False)
    kept = _kept(folder)
    kept.save_best(tensors=tensors, progress=_progress(epoch=1, best=0))
    kept.save_last(tensors=tensors, optimiser=optimiser, progress=_progress(epoch=1, best=0))
    kept.save_last(tensors=tensors, optimiser=optimiser, progress=_progress(epoch=2, best=0))
    return kept


def _damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes(data if how == "flipped" else data[: len(data) // 2])


FILES = [checkpoint.MODEL, checkpoint.OPTIMISER, checkpoint.STATE, checkpoint.MANIFEST]


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_last_checkpoint_is_passed_over_for_the_one_before_and_said(
    tmp_path: Path, file: str, how: str
) -> None:
    _damage(_two_epochs(tmp_path).last / file, how)
    said: list[str] = []
    found = _kept(tmp_path, said=said).resume()
    assert found is not None
    assert found.progress["epoch"] == 1
    (line,) = said
    assert "last: " in line
    assert "continuing from the one before it (previous)" in line


def test_the_newest_whole_checkpoint_is_resumed_without_a_word(tmp_path: Path) -> None:
    _two_epochs(tmp_path)
    said: list[str] = []
    found = _kept(tmp_path, said=said).resume()
    assert found is not None
    assert (found.progress["epoch"], said) == (2, [])


def test_where_both_are_damaged_nothing_is_trained_again_unasked(tmp_path: Path) -> None:
    kept = _two_epochs(tmp_path)
    for place in (kept.last, kept.previous):
        _damage(place / checkpoint.MODEL, "flipped")
    with pytest.raises(CalotError, match=r"last: model.*does not match its checksum; .*previous.*--overwrite"):
        kept.resume()


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("file", [checkpoint.MODEL, checkpoint.STATE, checkpoint.MANIFEST])
def test_a_damaged_best_checkpoint_is_refused_by_resume_and_by_load(tmp_path: Path, file: str, how: str) -> None:
    kept = _two_epochs(tmp_path)
    _damage(kept.best / file, how)
    with pytest.raises(CalotError, match=r"its best epoch is lost \(best: .*--overwrite"):
        kept.resume()
    with pytest.raises(CalotError, match=r"best: no intact checkpoint here"):
        checkpoint.load(kept.best)


def test_an_older_best_is_never_taken_for_a_damaged_one(tmp_path: Path) -> None:
    """A kill may leave the best before last behind; it is other weights than the run's best."""
    kept = _two_epochs(tmp_path)
    (tmp_path / "best").rename(tmp_path / "best.old")
    model, _ = _trained()
    kept.save_best(tensors=checkpoint.model_tensors(model, published=False), progress=_progress(epoch=2, best=1))
    _damage(kept.best / checkpoint.MODEL, "flipped")
    with pytest.raises(CalotError, match="no intact checkpoint"):
        checkpoint.load(kept.best)


def test_a_best_of_another_stage_or_epoch_is_not_the_runs_best(tmp_path: Path) -> None:
    kept = _two_epochs(tmp_path)
    with pytest.raises(CalotError, match=r"holds stage and epoch \(0, 0\), the run's best was \(0, 1\)"):
        kept.best_of(_progress(epoch=2, best=1))
    model, _ = _trained()
    tensors = checkpoint.model_tensors(model, published=False)
    kept.save_best(tensors=tensors, progress=_progress(stage=1, epoch=1, best=0))
    with pytest.raises(CalotError, match="of another stage"):
        kept.resume()


def test_a_first_checkpoint_that_was_never_finished_means_a_fresh_start(tmp_path: Path) -> None:
    (tmp_path / "last.new").mkdir()
    (tmp_path / "last.new" / checkpoint.MODEL).write_bytes(b"half")
    assert _kept(tmp_path).resume() is None


def test_no_whole_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    model, _ = _trained()
    _save(tmp_path / "last", model, None)
    (tmp_path / "last" / checkpoint.MANIFEST).unlink()
    with pytest.raises(CalotError, match=r"no intact checkpoint here \(manifest.json is missing\).*--overwrite"):
        checkpoint.load(tmp_path / "last")


def test_an_empty_manifest_vouches_for_nothing(tmp_path: Path) -> None:
    model, _ = _trained()
    _save(tmp_path / "last", model, None)
    (tmp_path / "last" / checkpoint.MANIFEST).write_text("{}")
    with pytest.raises(CalotError, match=r"does not list model\.safetensors"):
        checkpoint.load(tmp_path / "last")


def test_what_an_earlier_stage_trained_is_saved_though_it_is_frozen_now() -> None:
    model = Small()
    model.backbone.requires_grad_(False)
    saved = checkpoint.model_tensors(model, published=True, trained={model.backbone.weight})
    assert set(saved) == {"head.weight", "head.bias", "backbone.weight"}


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_between_the_renames_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    kept = _two_epochs(tmp_path)
    calls, real = [], os.replace

    def replace(a: Path, b: Path) -> None:
        calls.append(a)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        real(a, b)

    monkeypatch.setattr(os, "replace", replace)
    model, optimiser = _trained()
    tensors = checkpoint.model_tensors(model, published=False)
    with pytest.raises(KeyboardInterrupt):
        kept.save_last(tensors=tensors, optimiser=optimiser, progress=_progress(epoch=3, best=0))
    found = _kept(tmp_path).resume()
    assert found is not None
    assert found.progress["epoch"] == {1: 2, 2: 3}[killed_at]
    if killed_at == 2:  # the rename is finished, so a run that saves no more keeps its last one in its place
        assert checkpoint.problem_of(tmp_path / "last") is None
        assert not (tmp_path / "last.new").exists()


def test_a_second_kill_after_one_between_the_renames_of_the_best_does_not_lose_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _two_epochs(tmp_path)
    model, _ = _trained()
    tensors = checkpoint.model_tensors(model, published=False)
    real = os.replace
    for fails in ("put the new one in place", "write it"):
        with monkeypatch.context() as patched:
            if fails == "write it":
                patched.setattr(checkpoint, "_write", _killed)
            else:
                patched.setattr(os, "replace", lambda a, b: _killed() if a.name == "best.new" else real(a, b))
            with pytest.raises(KeyboardInterrupt):
                kept.save_best(tensors=tensors, progress=_progress(epoch=1, best=0))
        kept = _kept(tmp_path)
        assert kept.resume() is not None, fails
        kept.best_of(_progress(epoch=1, best=0))


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_weights_of_another_model_name_the_tensor(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=r"another shape for 1 tensors.*head\.weight"):
        checkpoint.load_into(Small(), {"head.weight": torch.zeros(9, 9), "head.bias": torch.zeros(2)}, where=tmp_path)
    with pytest.raises(CalotError, match=r"unknown 1 tensors.*tail"):
        checkpoint.load_into(Small(), {"tail": torch.zeros(1)}, where=tmp_path)


def test_the_manifest_lists_every_other_file(tmp_path: Path) -> None:
    model, optimiser = _trained()
    _save(tmp_path / "last", model, optimiser)
    listed = json.loads((tmp_path / "last" / checkpoint.MANIFEST).read_text())
    assert set(listed) == {p.name for p in (tmp_path / "last").iterdir()} - {checkpoint.MANIFEST}
