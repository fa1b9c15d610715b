"""COCO run-length masks: the compressed string that pycocotools writes, without pycocotools."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def run_lengths(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of alternating runs down the columns, starting with a run of False (may be 0)."""
    flat = np.asfortranarray(mask).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]]))
    return np.concatenate([[0], counts]) if flat[0] else counts


def encode(mask: NDArray[np.bool_]) -> dict[str, object]:
    """COCO's `segmentation` of a mask: `{"size": [rows, columns], "counts": string}`.

    From the third run on, each is stored as its difference to the run two before, five bits per character, low bits
    first, bit 6 set where more follow, plus 48 (cocoapi, `rleToString`).
    """
    counts = run_lengths(mask)
    deltas = counts.copy()
    deltas[3:] -= counts[1:-2]
    characters = []
    for delta in deltas.tolist():
        more = True
        while more:
            low = delta & 0x1F
            delta >>= 5
            more = delta != -1 if low & 0x10 else delta != 0
            characters.append(chr((low | 0x20 if more else low) + 48))
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": "".join(characters)}


def decode(segmentation: dict[str, object]) -> NDArray[np.bool_]:
    """The mask that `encode` was given."""
    counts: list[int] = []
    value, shift = 0, 0
    for code in map(ord, str(segmentation["counts"])):
        bits = code - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    size = segmentation["size"]
    assert isinstance(size, list)
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((size[0], size[1]), order="F")
