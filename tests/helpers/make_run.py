"""A plausible run's folder, written in a moment, with knobs for every case the report must tell apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from calot.criteria import CRITERIA, MASK_CLASSES
from calot.provenance.evidence import (
    ENTROPY,
    Change,
    DoseReading,
    DosesEvidence,
    Evidence,
    LedgerEvidence,
    ObservedEvidence,
    ObservedReading,
    SwitchedOffEvidence,
    SwitchOff,
)
from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck, Status
from calot.report.pictures import choose_clips, write_clip_sheet
from calot.statistics.metrics import mean_ap
from calot.statistics.predictions import Predictions, load_predictions

MANIFEST = "5d1c7a90be42f3187766aa01c2d9e8f44b3f0e6d7c8b9a0f1e2d3c4b5a697887"


def make_predictions(
    *,
    videos: int = 8,
    skill: float = 0.55,
    seed: int = 0,
    split: str = "val",
    without: str | None = None,
    manifest: str = MANIFEST,
    noise: int | None = None,
) -> Predictions:
    """Keyframes whose criteria come late and stay; `skill` scales the signal, `without` empties a criterion."""
    scene = np.random.default_rng({"val": 11, "test": 23}[split])
    noisy = np.random.default_rng(1000 + (seed if noise is None else noise))
    rows: list[dict[str, Any]] = []
    for number in range(videos):
        length, start = int(scene.integers(24, 64)), int(scene.integers(40, 400)) * 125
        onset = scene.uniform(0.35, 1.0, 3) + (1.0 if number % 4 == 3 else 0.0)
        drift = noisy.normal(0, 0.9, 3)
        for step in range(length):
            depth = step / length - onset
            votes = (depth[:, None] + scene.normal(0, 0.05, (3, 3)) > 0) & (scene.random((3, 3)) < 0.93)
            soft = votes.mean(1)
            logits = skill * np.clip(6 * depth, -1.4, 1.4) + drift + noisy.normal(0, 0.8, 3) - 1.4
            row: dict[str, Any] = {"video": str(121 + number), "frame": start + 125 * step}
            for place, criterion in enumerate(CRITERIA):
                value = 0.0 if criterion == without else float(soft[place])
                row |= {
                    f"logit_{criterion}": logits[place],
                    f"soft_{criterion}": value,
                    f"label_{criterion}": int(value >= 0.5),
                }
            rows.append(row)
    facts = {"dataset": "phantom", "split": split, "protocol": "keyframes", "seed": seed}
    frame = pl.DataFrame([facts | row for row in rows])
    return Predictions(frame=frame, fingerprint="f" * 64, manifest_hash=manifest, frames_per_second=25.0)


MASKS = {
    "synthetic": "sam2",
    "splits": {
        "train": {
            "clips": 6960,
            "masks": {"human": 493, "synthetic": 3071},
            "coverage": {"human": 0.071, "synthetic": 0.441, "all": 0.512, "without synthetic": 0.071},
        }
    },
}


def make_run(
    path: Path,
    *,
    name: str = "e02_frozen_probe",
    baseline: str | None = None,
    seed: int = 0,
    skill: float = 0.55,
    synthetic: bool = True,
    weights: str = "facebook/vjepa2-vitl-fpc64-256",
    trained: bool = False,
    receipt: bool = True,
    failed: str | None = None,
    pending: tuple[str, ...] = (),
    finished: bool = True,
    without: str | None = None,
    manifest: str = MANIFEST,
    videos: int = 8,
    splits: tuple[str, ...] = ("val",),
    pictures: bool = True,
    noise: int | None = None,
    masks: bool = False,
    entropy: tuple[float, ...] | None = None,
) -> Path:
    """Write a run's folder as `calot train` does and return it."""
    path.mkdir(parents=True)
    by_split = {
        split: make_predictions(
            videos=videos, skill=skill, seed=seed, split=split, without=without, manifest=manifest, noise=noise
        )
        for split in splits
    }
    _write(
        path / "experiment.json",
        _experiment(name=name, baseline=baseline, seed=seed, scale="tiny" if synthetic else "full"),
    )
    _write(path / "environment.json", _environment(name=name, seed=seed))
    data = _data(by_split["val"], synthetic=synthetic, manifest=manifest)
    _write(path / "data.json", data | ({"masks": MASKS} if masks else {}))
    _write(path / "model.json", _model(weights=weights, trained=trained))
    if receipt:
        _receipt(name=name, baseline=baseline, failed=failed, pending=pending, entropy=entropy).write(path)
    best = summarised(by_split["val"])
    metrics = _metrics(best, epochs=9 if finished else 2)
    (_with_masks(metrics) if masks else metrics).write_csv(path / "metrics.csv")
    if not finished:
        return path
    for split, predictions in by_split.items():
        predictions.write(path / "predictions" / f"{split}.parquet")
        for choice in choose_clips(predictions) if pictures else []:
            write_clip_sheet(_frames(choice.frame), path / "figures" / "clips" / split / choice.file_name)
    return path


def write_trivial(run: Path, *, split: str = "val") -> None:
    """One trivial baseline in a finished run's folder: its own predictions with their logits turned round."""
    own = load_predictions(run / "predictions" / f"{split}.parquet")
    turned = own.frame.with_columns(-pl.col(f"logit_{c}") for c in CRITERIA)
    replace(own, frame=turned, fingerprint="t" * 64).write(run / "baselines" / split / "clock.parquet")
    entry = {"name": "clock", "title": "time in the operation", "settings": "as made", "undefined": {}}
    facts = {"protocol": own.protocol, "manifest_hash": own.manifest_hash, "clips": 40, "videos": 8}
    _write(
        run / "baselines" / f"{split}.json",
        {"format": 1, "split": split, **facts, "undefined": None, "baselines": [entry]},
    )


def _experiment(*, name: str, baseline: str | None, seed: int, scale: str) -> dict[str, Any]:
    difference = [
        {
            "field": "loss",
            "baseline": {"_type": "BCE", "pos_weight": None},
            "value": {"_type": "FocalLoss", "gamma": 2.0},
        }
    ]
    return {
        "name": name,
        "baseline": baseline,
        "scale": scale,
        "seed": seed,
        "fingerprint": "f" * 64,
        "difference": difference if baseline else [],
        "experiment": {"_type": "Experiment", "name": name, "loss": {"_type": "BCE"}, "epochs": 9},
        "source": None,
        "header": "Question: does a frozen backbone see the critical view?\n\nPrediction: above chance, C2 weakest.",
    }


def _receipt(
    *, name: str, baseline: str | None, failed: str | None, pending: tuple[str, ...], entropy: tuple[float, ...] | None
) -> Receipt:
    """All checks, passed but for the ones named, with evidence of each shape."""
    evidence: dict[str, Evidence] = {
        "dose": DosesEvidence(
            doses=(DoseReading(name="share of batches under mixup", value=0.12345, low=0.2, high=0.4),)
        ),
        "observed": ObservedEvidence(
            floor=1e-3,
            readings=(
                ObservedReading(
                    stage=1,
                    name="mixing: share of batches under mixup",
                    count=40,
                    value=0.35,
                    low=0.2,
                    high=0.4,
                    met=True,
                    by_epoch=(0.3, None, 0.4),
                ),
                ObservedReading(
                    stage=1,
                    name="update of lora (share of its weights, over the stage)",
                    count=9,
                    value=0.01,
                    low=1e-5,
                    high=1e12,
                    met=True,
                    by_epoch=(0.004, 0.006),
                ),
                *([] if entropy is None else [_entropy(entropy)]),
            ),
        ),
        "ledger": LedgerEvidence(),
        "switched off": SwitchedOffEvidence(
            changes=(Change(name="logits", share=0.25),),
            off=(SwitchOff(field="loss", equal=True), SwitchOff(field="mixing", equal=None, why="alone it is none")),
        ),
    }
    checks = []
    for check in CHECKS:
        status: Status = "failed" if check == failed else "pending" if check in pending else "passed"
        why = f"the figures of {check} are not as declared" if check == failed else f"{check}: as declared"
        checks.append(ReceiptCheck(name=check, status=status, why=why, evidence=evidence.get(check)))
    return Receipt(experiment=name, baseline=baseline, fingerprint="f" * 64, checks=tuple(checks))


def _entropy(by_epoch: tuple[float, ...]) -> ObservedReading:
    mean = sum(by_epoch) / len(by_epoch)
    band = {"low": 0.0, "high": 1.0, "met": True}
    return ObservedReading(stage=1, name=ENTROPY, count=len(by_epoch), value=mean, by_epoch=by_epoch, **band)


def _environment(*, name: str, seed: int) -> dict[str, Any]:
    return {
        "command": f"calot train {name} --data data/endoscapes --seeds {seed} --out results/{name}/repeat",
        "started": "2026-01-05T10:12:44+00:00",
        "calot": "0.1.0",
        "python": "3.11.9",
        "platform": "Linux-6.1-x86_64",
        "processor": "x86_64",
        "cores": 2,
        "threads": 2,
        "gpu": None,
        "precision": "fp32",
        "packages": {"numpy": "2.3.1", "torch": "2.13.0", "transformers": "5.20.0"},
        "code": "c" * 64,
    }


def _data(predictions: Predictions, *, synthetic: bool, manifest: str) -> dict[str, Any]:
    positives = {c: int(predictions.labels[:, k].sum()) for k, c in enumerate(CRITERIA)}
    scored, videos = len(predictions.frames), len(set(predictions.videos.tolist()))

    def counts(share: float) -> dict[str, Any]:
        return {
            "frames": round(5 * scored * share),
            "keyframes": round(scored * share),
            "videos": round(videos * share),
            "scored": round(scored * share),
            "positives": {c: n / scored for c, n in positives.items()},
            "negative_per_positive": {c: (scored - n) / n if n else None for c, n in positives.items()},
            "all_negative": 0.62,
            "all_positive": 0.05,
            "rater_agreement": {"leave_one_rater_out_map": 0.71},
        }

    return {
        "root": "data/phantom" if synthetic else "data/endoscapes",
        "dataset": "phantom" if synthetic else "endoscapes",
        "synthetic": synthetic,
        "protocol": "keyframes",
        "causal": True,
        "window": "16 frames at 1 fps ending on the keyframe, start-padded",
        "label_rule": "Majority",
        "manifest_hash": manifest,
        "splits": {"train": counts(3.0), "val": counts(1.0), "test": counts(1.0)},
    }


def _model(*, weights: str, trained: bool) -> dict[str, Any]:
    groups = {"lora": 0, "backbone": 303_885_312, "pooling": 4_199_424, "head": 3_075}
    total = sum(groups.values())
    return {
        "weights": weights,
        "backbone": "V-JEPA 2 ViT-L, 24 layers, width 1024",
        "parameters": {
            "total": total,
            "trainable": total if trained else total - groups["backbone"],
            "groups": groups,
            "trainable_groups": groups if trained else groups | {"backbone": 0},
        },
        "tokens": {"grid": [8, 16, 16], "width": 1024},
    }


def summarised(predictions: Predictions) -> dict[str, float | None]:
    """mAP under `map` and each AP, as the best epoch of training would have logged them."""
    score = mean_ap(predictions.labels, predictions.logits)
    return {"map": score.value, **score.ap}


def _metrics(best: dict[str, float | None], *, epochs: int) -> pl.DataFrame:
    """Curves that rise to `best` in epoch 6 and then fall a little, with a growing gap to training."""
    rows = []
    for epoch in range(1, epochs + 1):
        rise = (1 - np.exp(-epoch / 2)) / (1 - np.exp(-3.0)) if epoch <= 6 else 1 - 0.03 * (epoch - 6)
        ap = {name: None if value is None else value * (0.3 + 0.7 * rise) for name, value in best.items()}
        rows.append(
            {
                "stage": "head",
                "epoch": epoch,
                "step": 40 * epoch,
                "lr": 1e-3 * (1 - epoch / (epochs + 1)),
                "train_loss": 0.30 + 0.34 * np.exp(-epoch / 3),
                "train_clean_loss": 0.24 + 0.37 * np.exp(-epoch / 3),
                "train_clean_map": 0.25 + 0.5 * (1 - np.exp(-epoch / 3)),
                "val_loss": 0.40 + 0.24 * np.exp(-epoch / 2) + 0.012 * max(0, epoch - 5) ** 1.5,
                "val_map": ap["map"],
                **{f"val_ap_{criterion}": ap[criterion] for criterion in CRITERIA},
            }
        )
    return pl.DataFrame(rows)


def _with_masks(metrics: pl.DataFrame) -> pl.DataFrame:
    """What a run with a decoder and supervised attention logs; attention begins in the second epoch."""
    rise = np.linspace(0.1, 0.6, metrics.height)
    columns = {"train_criteria": 0.5 - 0.1 * rise, "share_criteria": np.ones(metrics.height)}
    columns |= {"train_segmentation": 0.9 - rise, "share_segmentation": np.linspace(0.75, 1.0, metrics.height)}
    begun = np.where(np.arange(metrics.height) > 0, 1.0, np.nan)
    columns |= {"train_attention": 0.2 * begun, "share_attention": 0.5 * begun, "val_miou": rise}
    columns |= {f"val_iou_{name}": rise * (0.5 + place / 5) for place, name in enumerate(MASK_CLASSES)}
    return metrics.with_columns(pl.Series(name, values) for name, values in columns.items())


def _frames(frame: int) -> list[np.ndarray]:
    rng = np.random.default_rng(frame)
    y, x = np.mgrid[0:64, 0:96] / 64
    base = np.stack([150 + 60 * np.sin(3 * x + y), 70 + 30 * np.cos(4 * y), 60 + 20 * x], axis=-1)
    return [np.clip(base + 6 * step + rng.normal(0, 6, base.shape), 0, 255).astype(np.uint8) for step in range(8)]


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
