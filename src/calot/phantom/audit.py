"""Is a phantom like the real tables, and not a toy? `python -m calot.phantom.audit OUT [--json]`."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.phantom.oracles import oracle_rows
from calot.phantom.probes import ORACLE, PICTURE_PROBES, Keyframe, average_precisions, features
from calot.phantom.rows import AuditRow
from calot.phantom.spec import FRAME_STEP, NOTICE, SPLITS, TRUTH
from calot.phantom.statistics import LETTERS, REAL, REAL_KEYFRAMES, Votes, describe_votes
from calot.phantom.windows import Window, window_numbers

#: mAP points: how far colour and thumbnail must stay below the masks, and small pixels above chance.
MARGIN, ABOVE_CHANCE = 0.15, 0.05


@dataclass(frozen=True)
class AuditReport:
    """Every row measured on one folder."""

    root: str
    rows: tuple[AuditRow, ...]

    @property
    def passed(self) -> bool:
        """No row lies outside its band."""
        return all(row.passed is not False for row in self.rows)

    def value(self, name: str) -> float:
        """One row's figure by its name."""
        return {row.name: row.value for row in self.rows}[name]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"notice": NOTICE, "root": self.root, "passed": self.passed, "rows": [r.to_dict() for r in self.rows]}

    def __str__(self) -> str:
        width = max(40, *(len(row.name) for row in self.rows))
        lines = [f"{'':{width}} {'measured':>9} {'real':>7}   band  [95 % over videos]"]
        for row in self.rows:
            target = "" if row.target is None else f"{row.target:.3f}"
            ends = ["" if end is None else f"{end:.3f}" for end in (row.low, row.high)]
            band = "" if row.passed is None else f"{ends[0]} .. {ends[1]}  {'ok' if row.passed else 'OUTSIDE'}"
            figure = f"{row.value:.3f}" if abs(row.value) < 1000 else f"{row.value:.0f}"
            spread = "" if row.interval is None else "  [{:.3f}, {:.3f}]".format(*row.interval)
            lines.append(f"{row.name:{width}} {figure:>9} {target:>7}   {band}{spread}".rstrip())
        return "\n".join([*lines, NOTICE])


def read_votes(table: pl.DataFrame) -> list[Votes]:
    """The raters' votes on the keyframes of an `all_metadata.csv`, one array per video."""
    keys = table.filter(pl.col("is_ds_keyframe")).sort("vid", "frame")
    found = []
    for _, rows in keys.group_by("vid", maintain_order=True):
        raters = [[ast.literal_eval(cell) for cell in rows[f"cvs_annotator_{r}"]] for r in (1, 2, 3)]
        found.append(np.asarray(raters, dtype=np.int8).transpose(1, 0, 2))
    return found


def label_rows(votes: Sequence[Votes]) -> list[AuditRow]:
    """The statistics of a set of votes beside the real ones.

    Shares of videos and rises of a dissection depend on how long a video is, so they are judged only where the mean
    length is at least two thirds of the real one.
    """
    found = describe_votes(votes)
    short = float(np.mean([len(v) for v in votes])) < REAL_KEYFRAMES * 2 / 3
    return [
        AuditRow(
            name,
            found[name],
            band.target,
            *((None, None) if short and band.by_length else band.ends(videos=len(votes))),
        )
        for name, band in REAL.items()
    ]


def _metadata(root: Path) -> tuple[pl.DataFrame, dict[int, str]]:
    for name in ("phantom.json", "all_metadata.csv"):
        if not (root / name).is_file():
            raise CalotError(
                f"{root} holds no {name}, so it is not a finished phantom; write one with `calot data phantom`"
            )
    split = {
        int(float(line)): name
        for name in SPLITS
        for line in (root / f"{name}_vids.txt").read_text(encoding="utf-8").splitlines()
    }
    return pl.read_csv((root / "all_metadata.csv").read_bytes()), split


def _keyframes(root: Path, table: pl.DataFrame, split: dict[int, str]) -> dict[str, list[Keyframe]]:
    found: dict[str, list[Keyframe]] = {name: [] for name in SPLITS}
    for row in table.filter(pl.col("is_ds_keyframe")).iter_rows(named=True):
        stem, name = f"{row['vid']}_{row['frame']}", split[row["vid"]]
        c1, c2, c3 = (int(row[letter] >= 0.5) for letter in LETTERS)
        found[name].append(Keyframe(root / name / f"{stem}.jpg", root / "semseg" / f"{stem}.png", (c1, c2, c3)))
    return found


def _windows(root: Path, table: pl.DataFrame, split: dict[int, str]) -> dict[str, list[Window]]:
    """Each labelled frame and the frames before it that have true masks."""
    length = json.loads((root / "phantom.json").read_text(encoding="utf-8"))["spec"]["window_masks"]
    first = dict(table.group_by("vid").agg(pl.col("frame").min()).iter_rows())
    found: dict[str, list[Window]] = {name: [] for name in SPLITS}
    for row in table.filter(pl.col("is_ds_keyframe")).iter_rows(named=True):
        video, number, name = row["vid"], row["frame"], split[row["vid"]]
        c1, c2, c3 = (int(row[letter] >= 0.5) for letter in LETTERS)
        found[name].append(
            Window(
                video=video,
                seconds=(number - first[video]) // FRAME_STEP,
                folder=root / name,
                numbers=window_numbers(number, first=first[video], length=length),
                labels=(c1, c2, c3),
            )
        )
    return found


def probe_rows(train: Sequence[Keyframe], test: Sequence[Keyframe], *, workers: int) -> list[AuditRow]:
    """AP of each probe, fitted on train and scored on test, and the margins between them."""
    seen, held = features(train, workers=workers), features(test, workers=workers)
    train_labels, test_labels = (np.asarray([k.labels for k in s], dtype=np.int8) for s in (train, test))
    rows, means = [], {}
    for name in (*PICTURE_PROBES, ORACLE):
        scores = average_precisions(seen[name], train_labels, test=held[name], test_labels=test_labels)
        means[name] = float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")
        rows += [AuditRow(f"AP {letter}, {name}", score) for letter, score in zip(LETTERS, scores, strict=True)]
        rows.append(AuditRow(f"mAP, {name}", means[name], high=0.999 if name == ORACLE else None))
    chance = float(test_labels.mean())
    rows.append(AuditRow("chance (mean prevalence of val and test)", chance))
    for name in ("colour histogram", "8 x 8 thumbnail"):
        rows.append(AuditRow(f"true masks minus {name}", means[ORACLE] - means[name], low=MARGIN))
    rows.append(AuditRow("64 x 64 pixels minus chance", means["64 x 64 pixels"] - chance, low=ABOVE_CHANCE))
    return rows


def audit(root: Path, *, workers: int = 1) -> AuditReport:
    """Measure a phantom: label statistics on train and val (test is harder by design), probes fitted on train and
    scored on val and test together; with true masks of whole windows also what a window says beyond one frame."""
    table, split = _metadata(root)
    lengths = table.group_by("vid").len()["len"]
    sizes = [AuditRow("videos", float(len(lengths))), AuditRow("frames", float(table.height))]
    sizes.append(AuditRow("frames per video, mean", table.height / len(lengths)))
    like_train = table.filter(pl.col("vid").is_in([v for v, name in split.items() if name != "test"]))
    keyframes = _keyframes(root, table, split)
    if (root / TRUTH).is_dir():
        windows = _windows(root, table, split)
        probes = oracle_rows(windows["train"], windows["val"] + windows["test"], truth=root / TRUTH, workers=workers)
    else:
        probes = probe_rows(keyframes["train"], keyframes["val"] + keyframes["test"], workers=workers)
    return AuditReport(str(root), (*sizes, *label_rows(read_votes(like_train)), *probes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the audit of a folder; exit code 1 when a row lies outside its band."""
    parser = argparse.ArgumentParser(prog="calot.phantom.audit", description=f"{', '.join(CRITERIA)}. {NOTICE}")
    parser.add_argument("root", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    report = audit(given.root, workers=given.workers)
    print(json.dumps(report.to_dict(), indent=2) if given.json else report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
