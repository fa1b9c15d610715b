"""What many operations need: frames, bytes, FLOP, hours of decoding and of GPUs, from constants measured here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calot.bench.footage import SIZE, Footage, footage
from calot.bench.side_by_side import one_torch_thread
from calot.data.geometry import Squash
from calot.data.store import open_store
from calot.experiments import find
from calot.run.footprint import clip_flop

#: Of a GPU in bfloat16, sustained: half of what a matrix product reaches on an H100 (790, measured by others).
TFLOPS = 395.0
_RATE, _SECONDS = 30, 8  # frames per second and length of the recording that decoding is timed on


@dataclass(frozen=True, kw_only=True)
class ArchiveSize:
    """Operations to be scored: `seconds` of each at one frame per second, a clip every `stride` seconds. `recorded`:
    frames come from recordings, whose every frame is decoded; otherwise from JPEGs."""

    name: str
    operations: int
    seconds: float
    stride: float
    recorded: bool

    @property
    def frames(self) -> int:
        return round(self.operations * self.seconds)

    @property
    def clips(self) -> int:
        return round(self.frames / self.stride)


ARCHIVES = (
    ArchiveSize(name="Endoscapes, every frame", operations=201, seconds=58_813 / 201, stride=1, recorded=False),
    ArchiveSize(name="SAGES challenge", operations=700, seconds=90, stride=5, recorded=True),
    ArchiveSize(name="10,000 operations", operations=10_000, seconds=3600, stride=5, recorded=True),
)


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Core seconds to decode and resize one JPEG, and one second of a recording; TFLOP of a clip's forward pass; bytes
    of a stored frame and of a clip's tokens in half precision; a GPU's TFLOP/s, which is given."""

    jpeg_s: float
    second_s: float
    clip_tflop: float
    frame_bytes: int
    tokens_bytes: int
    gpu_tflops: float

    def needs(self, archive: ArchiveSize) -> dict[str, Any]:
        """One archive's row."""
        decode = archive.frames * (self.second_s if archive.recorded else self.jpeg_s) / 3600
        gpu = archive.clips * self.clip_tflop / self.gpu_tflops / 3600
        return {
            "archive": archive.name,
            "frames": archive.frames,
            "clips": archive.clips,
            "store_bytes": archive.frames * self.frame_bytes,
            "tokens_bytes": archive.clips * self.tokens_bytes,
            "pflop": archive.clips * self.clip_tflop / 1000,
            "decode_core_h": decode,
            "gpu_h": gpu,
            "hours_on_8_gpus": gpu / 8,
            "cores_per_gpu": decode / gpu,
        }


def measured_constants(*, gpu_tflops: float = TFLOPS, frames: int = 60) -> Constants:
    """Decode some frames of a phantom, as JPEGs and as a recording; count a full-size clip's FLOP."""
    with footage(None, frames=frames) as seen, one_torch_thread():
        jpeg, second = _jpeg_seconds(seen), _second_seconds(seen)
    experiment = find("e02_frozen_probe").experiment
    spec = experiment.backbone
    tokens = 2 * int(np.prod(spec.grid)) * spec.width
    forward, _ = clip_flop(experiment, stage=0)
    return Constants(
        jpeg_s=jpeg,
        second_s=second,
        clip_tflop=forward / 1e12,
        frame_bytes=3 * SIZE**2,
        tokens_bytes=tokens,
        gpu_tflops=gpu_tflops,
    )


def _jpeg_seconds(seen: Footage) -> float:
    """Processor seconds of a frame into the store, one thread."""
    start = time.process_time()
    store = open_store(seen.root, seen.manifest, geometry=Squash(), size=SIZE, cache=seen.scratch / "timed", workers=1)
    return (time.process_time() - start) / len(store)


def _second_seconds(seen: Footage) -> float:
    """Processor seconds to decode a second of H.264 and resize the one frame that is kept, one thread."""
    import av
    from PIL import Image

    path = seen.scratch / "recording.mp4"
    with Image.open(seen.root / seen.images[0]) as image:
        width, height = image.width // 2 * 2, image.height // 2 * 2
    pictures = [_picture(seen.root / name, width=width, height=height) for name in seen.images[: _SECONDS * 2]]
    _record(path, (pictures[n * len(pictures) // (_RATE * _SECONDS)] for n in range(_RATE * _SECONDS)))
    start = time.process_time()
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number % _RATE == 0:
                picture: Any = frame
                picture.to_image().resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return (time.process_time() - start) / _SECONDS


def _picture(path: Path, *, width: int, height: int) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").crop((0, 0, width, height)))


def _record(path: Path, pictures: Iterable[np.ndarray]) -> None:
    """A recording of pictures under some noise, as a camera's."""
    import av

    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream: Any = None
        for picture in pictures:
            if stream is None:
                stream = container.add_stream("libx264", rate=_RATE)
                stream.height, stream.width, stream.pix_fmt = picture.shape[0], picture.shape[1], "yuv420p"
            noisy = np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())


def to_dict(found: Constants, archives: Sequence[ArchiveSize] = ARCHIVES) -> dict[str, Any]:
    """Constants and one row per archive."""
    return {"constants": asdict(found), "rows": [found.needs(archive) for archive in archives]}
