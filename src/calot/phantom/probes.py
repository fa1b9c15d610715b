"""Classifiers that see only part of the truth: colour, a thumbnail, small pixels, or the true masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.phantom.anatomy import CLASSES

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Keyframe:
    """One labelled frame: where its picture and mask lie, and the majority labels."""

    picture: Path
    mask: Path
    labels: tuple[int, int, int]


def histogram(picture: NDArray[np.uint8]) -> Floats:
    """Where colours lie, not where in the picture: 12 bins of each RGB channel, 8 x 8 of hue and saturation."""
    channels = [cv2.calcHist([picture], [c], None, [12], [0, 256]).ravel() for c in range(3)]
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    joint = cv2.calcHist([hsv], [0, 1], None, [8, 8], [0, 180, 0, 256]).ravel()
    return np.asarray(np.concatenate([*channels, joint]) / picture[..., 0].size, np.float32)


def thumbnail(picture: NDArray[np.uint8]) -> Floats:
    """The picture squashed to 8 x 8 RGB."""
    return np.asarray(cv2.resize(picture, (8, 8), interpolation=cv2.INTER_AREA).ravel() / 255, np.float32)


def small_pixels(picture: NDArray[np.uint8]) -> Floats:
    """The picture squashed to 64 x 64: 32 x 32 RGB, and gradient orientations on an 8 x 8 grid."""
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.hypot(dx, dy)
    bins = ((np.arctan2(dy, dx) % np.pi) / np.pi * 8).astype(int) % 8
    cells = [cv2.resize(strength * (bins == b), (8, 8), interpolation=cv2.INTER_AREA) for b in range(8)]
    tiny = cv2.resize(small, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255
    return np.concatenate([tiny, 3.0 * np.stack(cells).ravel()]).astype(np.float32)


def mask_features(mask: NDArray[np.uint8]) -> Floats:
    """What the true mask says: each class's area, its share of the dissected anatomy, extent and place."""
    areas = np.array([(mask == c).mean() for c in range(1, len(CLASSES) + 1)])
    features = [areas, areas / max(areas[4], 0.01)]  # over the gallbladder's, which undoes the zoom
    for c in range(1, 5):
        rows, columns = np.flatnonzero((mask == c).any(axis=1)), np.flatnonzero((mask == c).any(axis=0))
        if len(rows):
            extent = (rows[-1] - rows[0], columns[-1] - columns[0], rows.mean(), columns.mean())
        else:
            extent = (0.0, 0.0, 0.0, 0.0)
        features.append(np.array(extent) / mask.shape[0])
    return np.concatenate(features).astype(np.float32)


PICTURE_PROBES: dict[str, Callable[[NDArray[np.uint8]], Floats]] = {
    "colour histogram": histogram,
    "8 x 8 thumbnail": thumbnail,
    "64 x 64 pixels": small_pixels,
}
ORACLE = "true masks"


def features(keyframes: Sequence[Keyframe], *, workers: int) -> dict[str, Floats]:
    """Feature table of every probe, one row per keyframe."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        rows = list(pool.map(_one, keyframes))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _one(keyframe: Keyframe) -> dict[str, Floats]:
    picture = simplejpeg.decode_jpeg(keyframe.picture.read_bytes(), colorspace="RGB")
    found = {name: probe(picture) for name, probe in PICTURE_PROBES.items()}
    mask = cv2.imread(str(keyframe.mask), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise CalotError(f"mask {keyframe.mask} cannot be read; the audit needs a phantom with mask_share=1")
    return found | {ORACLE: mask_features(np.asarray(mask, np.uint8))}


def average_precisions(
    train: Floats, train_labels: NDArray[np.int8], *, test: Floats, test_labels: NDArray[np.int8]
) -> list[float]:
    """AP by criterion on the test rows of `best_scores`; NaN for a criterion without both labels on either side."""
    from sklearn.metrics import average_precision_score

    scores = best_scores(train, train_labels, test=test, test_labels=test_labels)
    return [
        float(average_precision_score(target, own)) if np.isfinite(own).all() else float("nan")
        for target, own in zip(test_labels.T, scores.T, strict=True)
    ]


def best_scores(
    train: Floats, train_labels: NDArray[np.int8], *, test: Floats, test_labels: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Scores of the test rows, by criterion: of the better (on the test rows) of logistic regression and gradient
    boosting fitted on train. NaN for a criterion without both labels on either side.
    """
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wide = train.shape[1] > 1000
    found = np.full(test_labels.shape, np.nan)
    for k in range(train_labels.shape[1]):
        y, target = train_labels[:, k], test_labels[:, k]
        if len(np.unique(y)) < 2 or not target.any():
            continue
        logistic = LogisticRegression(C=0.02 if wide else 0.1, class_weight="balanced", max_iter=2000)
        parts = [PCA(min(120, len(train) - 1), random_state=0)] if wide else []
        models = [make_pipeline(StandardScaler(), *parts, logistic)]
        if not wide:
            models.append(HistGradientBoostingClassifier(max_iter=120, learning_rate=0.06, max_depth=4, random_state=0))
        scores = [model.fit(train, y).predict_proba(test)[:, 1] for model in models]
        found[:, k] = max(scores, key=lambda score: float(average_precision_score(target, score)))
    return found
