"""What a backbone or its frozen lower layers give: computed once per clip and view, read back from memory-mapped files.

A cache's folder is named by all that its numbers depend on: weights, code, pixels, windows, precision, views. It is
built shard by shard; a build that was killed resumes. Each shard has a SHA-256, a part of which is checked on opening.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from calot.data.cache import ELSEWHERE
from calot.data.digests import held_to_digest, read_checked, with_digest
from calot.errors import CalotError
from calot.progress import Advance
from calot.types import Tokens

Kind = Literal["fp32", "fp16", "int8"]

FORMAT = 1
VALUES, SCALES, RECORD, JOURNAL = "tokens.raw", "scales.raw", "features.json", "journal.jsonl"
CHECKED_BYTES = 256 << 20  # of a cache that each opening hashes again, in shards chosen at random
_STORED: dict[Kind, type[np.generic]] = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
#: How far stored tokens may be from computed ones, relative to their norm: rounding, and that batches of another size
#: are multiplied in another order.
TOLERANCE: dict[Kind, float] = {"fp32": 1e-5, "fp16": 2e-3, "int8": 2e-2}


@dataclass(frozen=True, kw_only=True)
class FeatureShape:
    """Clips `clips` in each of `views`, each clip `tokens` of `width` on `grid`, `shard` clips to a shard."""

    clips: int
    views: int
    grid: tuple[int, int, int]
    width: int
    kind: Kind
    shard: int

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip in one view, scales left out."""
        return self.tokens * self.width * np.dtype(_STORED[self.kind]).itemsize

    @property
    def bytes(self) -> int:
        scales = 4 * self.width if self.kind == "int8" else 0
        return self.views * self.clips * (self.clip_bytes + scales)

    @property
    def shards(self) -> list[tuple[int, range]]:
        """View and clips of each shard, in the order of the file."""
        starts = range(0, self.clips, self.shard)
        return [(view, range(s, min(s + self.shard, self.clips))) for view in range(self.views) for s in starts]


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """Tokens `(clips, tokens, width)` by clip and view. `facts` is what they depend on, `digests` one per shard."""

    path: Path
    shape: FeatureShape
    facts: Mapping[str, Any] = field(repr=False)
    digests: tuple[str, ...] = field(repr=False)
    device: torch.device | None = None  # where all of them are held, if not in the file
    entering: int | None = None  # the layer that they enter, where they are not the backbone's output

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.shape.kind]

    @cached_property
    def _values(self) -> NDArray[Any]:
        s = self.shape
        size = (s.views * s.clips, s.tokens, s.width)
        return np.memmap(self.path / VALUES, dtype=_STORED[s.kind], mode="r", shape=size)

    @cached_property
    def _scales(self) -> NDArray[np.float32]:
        s = self.shape
        return np.memmap(self.path / SCALES, dtype=np.float32, mode="r", shape=(s.views * s.clips, 1, s.width))

    @cached_property
    def _held(self) -> tuple[Tensor, Tensor | None] | None:
        """Everything on the device, where it is held there."""
        if self.device is None:
            return None
        scales = torch.from_numpy(np.array(self._scales)).to(self.device) if self.shape.kind == "int8" else None
        return torch.from_numpy(np.array(self._values)).to(self.device), scales

    def read(self, clips: NDArray[np.int64], *, views: NDArray[np.int64] | None = None) -> Tokens:
        """The tokens of clips, each in its view (the first where none are given), in float32.

        Raises IndexError for clips or views that are not there.
        """
        s = self.shape
        seen = np.zeros(len(clips), dtype=np.int64) if views is None else views
        if len(clips) and not (0 <= clips.min() <= clips.max() < s.clips and 0 <= seen.min() <= seen.max() < s.views):
            raise IndexError(f"{self.path}: {s.clips} clips in {s.views} views, asked for others")
        rows = seen * s.clips + clips
        if self._held is not None:
            held, scales = self._held
            chosen = torch.from_numpy(rows).to(held.device)
            values, scale = held[chosen], None if scales is None else scales[chosen]
        else:
            values = torch.from_numpy(np.take(self._values, rows, axis=0, mode="clip"))
            scale = torch.from_numpy(np.take(self._scales, rows, axis=0, mode="clip")) if s.kind == "int8" else None
        return Tokens(_widened(values, scale), grid=s.grid, entering=self.entering)

    def verify(self, *, rng: np.random.Generator | None = None) -> None:
        """Hash every shard again, or as many as `CHECKED_BYTES` hold where `rng` chooses them.

        Raises CalotError naming the clips whose bytes changed.
        """
        shards = self.shape.shards
        count = (
            len(shards) if rng is None else max(1, CHECKED_BYTES // max(1, self.shape.shard * self.shape.clip_bytes))
        )
        order = np.arange(len(shards)) if rng is None else rng.permutation(len(shards))
        for number in order[:count].tolist():
            view, clips = shards[number]
            rows = slice(view * self.shape.clips + clips.start, view * self.shape.clips + clips.stop)
            if (
                _digest(self._values[rows], self._scales[rows] if self.shape.kind == "int8" else None)
                != (self.digests[number])
            ):
                raise CalotError(
                    f"{self.path / VALUES}: the features of clips {clips.start}..{clips.stop - 1} (view {view}) were "
                    f"damaged. Delete {self.path}; the next run builds it again."
                )


def features_key(facts: Mapping[str, Any], shape: FeatureShape) -> str:
    """A SHA-256 of what a cache's numbers depend on."""
    return hashlib.sha256(json.dumps([FORMAT, facts, repr(shape)], sort_keys=True).encode()).hexdigest()


def open_features(home: Path, *, facts: Mapping[str, Any], shape: FeatureShape) -> FeatureCache:
    """A cache that was built. Raises CalotError where it is not whole, is another's, or a checked part changed."""
    try:
        record = read_checked(home / RECORD)
        found = (home / VALUES).stat().st_size
        cache = FeatureCache(path=home, shape=shape, facts=facts, digests=tuple(record["digests"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CalotError(f"{home}: not a whole feature cache ({error!r}). Delete the folder.") from error
    if record["key"] != features_key(facts, shape) or len(cache.digests) != len(shape.shards):
        raise CalotError(f"{home}: features of something else are here. Delete the folder.")
    if found != shape.views * shape.clips * shape.clip_bytes:
        raise CalotError(f"{home / VALUES}: {found} bytes are not what its record says. Delete {home}.")
    cache.verify(rng=np.random.default_rng())
    return cache


@dataclass(frozen=True, kw_only=True)
class FeatureBuild:
    """What to build and where: `compute` gives the tokens `(b, tokens, width)` of consecutive clips in a view."""

    home: Path
    shape: FeatureShape
    facts: Mapping[str, Any]
    compute: Callable[[int, range], Iterator[Float[Tensor, "b n d"]]]

    @property
    def work(self) -> Path:
        return self.home.with_name(f"{self.home.name}.part")

    def run(self, *, advance: Advance) -> None:
        """Build what is missing. Raises CalotError where the disk refuses."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            done = self._resume()
            self._require_room(done)
            with (self.work / VALUES).open("ab") as file:
                file.truncate(self.shape.views * self.shape.clips * self.shape.clip_bytes)
            with (self.work / SCALES).open("ab") as file:
                file.truncate(self.shape.bytes - self.shape.views * self.shape.clips * self.shape.clip_bytes)
            self._fill(done, advance=advance)
            record = {"key": features_key(self.facts, self.shape), "facts": self.facts, "shape": repr(self.shape)}
            record["digests"] = [done[number] for number in range(len(self.shape.shards))]
            (self.work / RECORD).write_text(with_digest(record), encoding="utf-8")
            os.replace(self.work, self.home)
            (self.home / JOURNAL).unlink(missing_ok=True)
        except OSError as error:
            if not (self.home / RECORD).exists():  # else another process finished the same cache first
                raise CalotError(
                    f"{self.work}: cannot be written ({error}). Free disk space, give {ELSEWHERE}, or train without "
                    "cached features: compute.features=off."
                ) from error
            shutil.rmtree(self.work, ignore_errors=True)

    def _require_room(self, done: Mapping[int, str]) -> None:
        missing = self.shape.bytes * (1 - len(done) / len(self.shape.shards))
        free = shutil.disk_usage(self.work).free
        if missing > free:
            raise CalotError(
                f"{self.work}: cached features need {missing / 1e9:.2f} GB, {free / 1e9:.2f} GB are free. Free some, "
                f"give {ELSEWHERE}, or train without them: compute.features=off."
            )

    def _resume(self) -> dict[int, str]:
        """Shards that an earlier build journalled and whose bytes are still those."""
        done: dict[int, str] = {}
        journal = self.work / JOURNAL
        if not journal.is_file():
            return done
        for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = held_to_digest(json.loads(line))
            except (ValueError, RecursionError):
                continue  # the line that was being written at a kill
            if _digest(*self._bytes(entry["number"])) == entry["sha256"]:
                done[entry["number"]] = entry["sha256"]
        return done

    def _bytes(self, number: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        first, count = self._rows(number)
        values = np.fromfile(
            self.work / VALUES, np.uint8, count=count * self.shape.clip_bytes, offset=first * self.shape.clip_bytes
        )
        if self.shape.kind != "int8":
            return values, None
        each = 4 * self.shape.width
        return values, np.fromfile(self.work / SCALES, np.uint8, count=count * each, offset=first * each)

    def _rows(self, number: int) -> tuple[int, int]:
        """The first row of a shard and how many it has."""
        view, clips = self.shape.shards[number]
        return view * self.shape.clips + clips.start, len(clips)

    def _fill(self, done: dict[int, str], *, advance: Advance) -> None:
        shards, whole = self.shape.shards, self.shape.views * self.shape.clips
        seen = sum(len(shards[number][1]) for number in done)
        advance(seen, whole)
        for number, (view, clips) in enumerate(shards):
            if number in done:
                continue
            parts = []
            for tokens in self.compute(view, clips):
                parts.append(_narrowed(_finite(tokens, view=view, clips=clips), self.shape.kind))
                seen += len(tokens)
                advance(seen, whole)
            done[number] = self._write(number, parts)

    def _write(self, number: int, parts: Sequence[tuple[NDArray[Any], NDArray[np.float32] | None]]) -> str:
        values = np.concatenate([p[0] for p in parts])
        scales = np.concatenate([p[1] for p in parts if p[1] is not None]) if self.shape.kind == "int8" else None
        first, _ = self._rows(number)
        for name, data, each in ((VALUES, values, self.shape.clip_bytes), (SCALES, scales, 4 * self.shape.width)):
            if data is not None:
                with (self.work / name).open("r+b") as file:
                    file.seek(first * each)
                    file.write(data.tobytes())
                    file.flush()
                    os.fsync(file.fileno())
        digest = _digest(values, scales)
        with (self.work / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(with_digest({"number": number, "sha256": digest}) + "\n")
        return digest


def _finite(tokens: Float[Tensor, "b n d"], *, view: int, clips: range) -> Float[Tensor, "b n d"]:
    if not bool(torch.isfinite(tokens).all()):
        raise CalotError(
            f"the backbone gives non-finite tokens among clips {clips.start}..{clips.stop - 1}, view {view}"
        )
    return tokens


def _narrowed(tokens: Float[Tensor, "b n d"], kind: Kind) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Tokens as they are stored. int8: rounded to the 127th part of the largest value of their clip and channel."""
    x = tokens.float().cpu()
    if kind == "fp32":
        return x.numpy(), None
    if kind == "fp16":
        return x.clamp(-65504, 65504).half().numpy(), None
    scale = (x.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-12)
    return (x / scale).round_().to(torch.int8).numpy(), scale.numpy()


def _widened(values: Shaped[Tensor, "b n d"], scale: Tensor | None) -> Float[Tensor, "b n d"]:
    return values.float() if scale is None else values.float().mul_(scale)


def _digest(values: NDArray[Any], scales: NDArray[Any] | None) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes())
    if scales is not None:
        digest.update(np.ascontiguousarray(scales).tobytes())
    return digest.hexdigest()
