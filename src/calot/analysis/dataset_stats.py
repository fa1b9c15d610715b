"""What a data set holds under a protocol: class distribution, combinations, rater agreement, lengths. Never torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from calot.criteria import CRITERIA, label
from calot.data.clips import Protocol
from calot.data.manifest import Manifest
from calot.drawing import LIGHT, style
from calot.errors import CalotError, nearest_name
from calot.statistics.agreement import cohen_kappa, fleiss_kappa
from calot.writing import whole_file

PHANTOM_NOTE = "synthetic, says nothing clinical"

#: 000, 100, 010, 001, 110, ... 111: none, each criterion alone, then together.
_COMBINATIONS = sorted(product((0, 1), repeat=len(CRITERIA)), key=lambda bits: (sum(bits), [-b for b in bits]))


@dataclass(frozen=True)
class RaterAgreement:
    """How far raters agree, on keyframes that all of them saw; a figure is None where it is undefined (one rater, or
    nobody ever disagreed).

    `cohen_kappa` is by pair of raters; `unanimous` the share of keyframes on which all vote alike. Leave one rater
    out: the others' votes, averaged, as the score for that one's vote; `average_precision` is that score's, `agreement`
    the share of keyframes on which the one votes with the others' majority.
    """

    cohen_kappa: dict[str, dict[str, float | None]]
    fleiss_kappa: dict[str, float | None]
    unanimous: dict[str, float | None]
    leave_one_rater_out: dict[str, dict[str, dict[str, float | None]]]
    leave_one_rater_out_map: float | None


@dataclass(frozen=True)
class VideoLengths:
    """Seconds per video; `largest_share` is the longest one's share of the scored frames."""

    shortest: float
    median: float
    mean: float
    longest: float
    largest_share: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class SplitStats:
    """One split; shares are over the labelled frames that the protocol scores, `chance` is the mean prevalence.

    Where no scored frame has a label, every figure of labels is None.
    """

    frames: int
    keyframes: int
    videos: int
    scored: int
    unlabelled: int
    positives: dict[str, float | None]
    negative_per_positive: dict[str, float | None]
    chance: float | None
    all_negative: float | None
    all_positive: float | None
    combinations: dict[str, float | None]
    rater_agreement: RaterAgreement | None
    video_lengths: VideoLengths
    never_positive_videos: dict[str, list[str]]


@dataclass(frozen=True)
class DatasetStats:
    """The statistics of every split under one protocol; `to_dict` is what `calot data stats --json` prints."""

    dataset: str
    protocol: str
    manifest_hash: str
    splits: dict[str, SplitStats]

    def to_dict(self) -> dict[str, Any]:
        """The contract of `calot data stats --json` and of a run's `data.json`."""
        splits = {name: asdict(stats) for name, stats in self.splits.items()}
        return {"protocol": self.protocol, "manifest_hash": self.manifest_hash, "splits": splits}


def dataset_statistics(manifest: Manifest, *, protocol: Protocol) -> DatasetStats:
    """Count every split that is there."""
    return DatasetStats(
        dataset=manifest.dataset,
        protocol=protocol.name,
        manifest_hash=manifest.hash,
        splits={name: _split_stats(manifest.split(name), protocol=protocol) for name in manifest.splits},
    )


def combination_name(positive: tuple[int, ...]) -> str:
    """`none`, or the positive criteria joined: `two_structures+cystic_plate`."""
    return "+".join(c for c, yes in zip(CRITERIA, positive, strict=True) if yes) or "none"


def _split_stats(manifest: Manifest, *, protocol: Protocol) -> SplitStats:
    asked = protocol.scored(manifest)
    scored = asked & manifest.labelled
    labels = manifest.labels[scored]
    positive = labels.sum(axis=0, dtype=np.int64)
    n, videos = len(labels), np.asarray(manifest.videos)
    return SplitStats(
        frames=len(manifest),
        keyframes=int(manifest.keyframes.sum()),
        videos=len(np.unique(videos)),
        scored=int(asked.sum()),
        unlabelled=int(asked.sum()) - n,
        positives={c: _share(labels[:, k] > 0) for k, c in enumerate(CRITERIA)},
        negative_per_positive={c: float((n - p) / p) if p else None for c, p in zip(CRITERIA, positive, strict=True)},
        chance=float((positive / n).mean()) if n else None,
        all_negative=_share(~labels.any(axis=1)),
        all_positive=_share(labels.all(axis=1)),
        combinations={combination_name(bits): _share((labels == np.array(bits)).all(axis=1)) for bits in _COMBINATIONS},
        rater_agreement=_rater_agreement(manifest),
        video_lengths=_video_lengths(videos, scored=asked, apart=manifest.numbering.seconds_apart),
        never_positive_videos=_never_positive(videos[scored], labels=labels),
    )


def _share(which: Any) -> float | None:
    which = np.asarray(which)
    return float(which.mean()) if len(which) else None


def _video_lengths(videos: NDArray[np.str_], *, scored: NDArray[np.bool_], apart: float) -> VideoLengths:
    names, first, frames = np.unique(videos, return_index=True, return_counts=True)
    order = np.argsort(first)
    counts = frames if apart == 1 else frames * apart
    of_scored = np.unique(videos[scored], return_counts=True)[1]
    return VideoLengths(
        shortest=counts.min().item(),
        median=float(np.median(counts)),
        mean=float(counts.mean()),
        longest=counts.max().item(),
        largest_share=float(of_scored.max() / of_scored.sum()) if len(of_scored) else 0.0,
        seconds={str(names[i]): counts[i].item() for i in order},
    )


def _never_positive(videos: NDArray[np.str_], *, labels: NDArray[np.int8]) -> dict[str, list[str]]:
    """Videos without a positive scored frame, by criterion and, under `any`, of no criterion at all."""
    columns = {c: labels[:, k] for k, c in enumerate(CRITERIA)} | {"any": labels.max(axis=1, initial=0)}
    names = list(dict.fromkeys(videos.tolist()))
    seen = {c: set(videos[column > 0].tolist()) for c, column in columns.items()}
    return {c: [v for v in names if v not in seen[c]] for c in columns}


def _rater_agreement(manifest: Manifest) -> RaterAgreement | None:
    raters, votes = manifest.raters, manifest.votes[manifest.keyframes]
    votes = votes[(votes >= 0).all(axis=(1, 2))]
    if not len(votes) or not raters:
        return None
    of = {c: votes[:, :, k].astype(np.float64) for k, c in enumerate(CRITERIA)}
    several = len(raters) > 1
    left_out = {c: {str(r): _left_out(v, rater=i) for i, r in enumerate(raters) if several} for c, v in of.items()}
    precisions = [rater["average_precision"] for raters in left_out.values() for rater in raters.values()]
    known = [p for p in precisions if p is not None]
    return RaterAgreement(
        cohen_kappa={
            c: {
                f"{raters[i]}-{raters[j]}": cohen_kappa(v[:, i], v[:, j])
                for i, j in combinations(range(len(raters)), 2)
            }
            for c, v in of.items()
        },
        fleiss_kappa={c: fleiss_kappa(v) if several else None for c, v in of.items()},
        unanimous={c: _share(v.min(axis=1) == v.max(axis=1)) for c, v in of.items()},
        leave_one_rater_out=left_out,
        leave_one_rater_out_map=float(np.mean(known)) if known and len(known) == len(precisions) else None,
    )


def _left_out(votes: NDArray[np.float64], *, rater: int) -> dict[str, float | None]:
    from sklearn.metrics import average_precision_score

    vote, others = votes[:, rater], np.delete(votes, rater, axis=1).mean(axis=1)
    decided = others != 0.5
    precision = float(average_precision_score(vote, others)) if vote.any() else None
    return {
        "average_precision": precision,
        "agreement": _share(vote[decided] == (others[decided] > 0.5)),
    }


def tables(stats: DatasetStats) -> list[Table]:
    """For people: one table of the class distribution and one of the raters."""
    note = f" ({PHANTOM_NOTE})" if stats.dataset == "phantom" else ""
    main = Table(title=f"{stats.dataset}{note}, protocol {stats.protocol}, manifest {stats.manifest_hash[:12]}")
    main.add_column("", no_wrap=True)
    raters = Table(title="raters: Fleiss kappa / all alike / AP of the others for one")
    raters.add_column("", no_wrap=True)
    for name, split in stats.splits.items():
        bare = f"\n{split.unlabelled:,} unlabelled" if split.unlabelled else ""
        main.add_column(f"{name}\n{split.scored:,} scored{bare}", justify="right")
        raters.add_column(f"{name}\n{split.keyframes:,} keyframes", justify="right")
    splits = list(stats.splits.values())
    main.add_row("videos / frames", *[f"{s.videos} / {s.frames:,}" for s in splits])
    for c in CRITERIA:
        main.add_row(label(c), *[_prevalence(s, c) for s in splits])
        raters.add_row(label(c), *[_agreement(s, c) for s in splits])
    main.add_row("chance (mean of the 3)", *[_percent(s.chance) for s in splits])
    main.add_row("no criterion", *[_percent(s.all_negative) for s in splits])
    main.add_row("all three", *[_percent(s.all_positive) for s in splits])
    main.add_row("seconds, median", *[_lengths(s.video_lengths) for s in splits])
    main.add_row("never positive videos", *[f"{len(s.never_positive_videos['any'])} of {s.videos}" for s in splits])
    main.add_row("largest video's share", *[f"{s.video_lengths.largest_share:.1%}" for s in splits])
    return [main, raters]


def _prevalence(stats: SplitStats, criterion: str) -> str:
    ratio = stats.negative_per_positive[criterion]
    share = stats.positives[criterion]
    if share is None:
        return "no label"
    return f"{share:.1%} ({ratio:.2f}x)" if ratio is not None else "no positive"


def _agreement(stats: SplitStats, criterion: str) -> str:
    raters = stats.rater_agreement
    if raters is None:
        return "no raters"
    left_out = [r["average_precision"] for r in raters.leave_one_rater_out[criterion].values()]
    known = [precision for precision in left_out if precision is not None]
    mean = float(np.mean(known)) if known and len(known) == len(left_out) else None
    alike = _percent(raters.unanimous[criterion], digits=0)
    return f"{_number(raters.fleiss_kappa[criterion])} / {alike} / {_number(mean)}"


def _percent(value: float | None, *, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _lengths(lengths: VideoLengths) -> str:
    return f"{lengths.shortest:g}..{lengths.longest:g}, {lengths.median:.0f}"


def draw(stats: DatasetStats, *, path: Path) -> None:
    """Draw the class distribution, the combinations, the raters' agreement and the lengths as one PNG."""
    import matplotlib

    with matplotlib.rc_context(style(LIGHT) | {"axes.prop_cycle": f"cycler('color', {list(LIGHT.series)})"}):
        _draw(stats, path=path)


def _draw(stats: DatasetStats, *, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(facecolor=LIGHT.paper, figsize=(12, 8), layout="constrained", dpi=110)
    note = f" ({PHANTOM_NOTE})" if stats.dataset == "phantom" else ""
    figure.suptitle(f"{stats.dataset}{note}: protocol {stats.protocol}, manifest {stats.manifest_hash[:12]}")
    axes = figure.subplots(2, 2)
    names = [label(c).replace(" ", "\n", 1) for c in CRITERIA]
    shares = {f"{s} (chance {_percent(v.chance)})": v for s, v in stats.splits.items()}
    _bars(axes[0, 0], {s: [100 * _or_nan(v.positives[c]) for c in CRITERIA] for s, v in shares.items()}, names=names)
    axes[0, 0].set(title="Positive frames", ylabel="% of scored frames")
    kinds = [combination_name(bits) for bits in _COMBINATIONS[1:]]
    short = ["\n".join(label(c).split()[0] for c in kind.split("+")) for kind in kinds]
    _bars(
        axes[0, 1], {s: [100 * _or_nan(v.combinations[k]) for k in kinds] for s, v in stats.splits.items()}, names=short
    )
    none = ", ".join(f"{s} {_percent(v.all_negative)}" for s, v in stats.splits.items())
    axes[0, 1].set(title="Combinations", xlabel=f"no criterion: {none}", ylabel="% of scored frames")
    raters = {s: v.rater_agreement for s, v in stats.splits.items()}
    kappas = {s: [_or_nan(r.fleiss_kappa[c]) for c in CRITERIA] for s, r in raters.items() if r is not None}
    lowest = float(np.nanmin([0.0, *(k for split in kappas.values() for k in split)]))
    _bars(axes[1, 0], kappas, names=names)
    axes[1, 0].set(title="Agreement of the raters", ylabel="Fleiss' kappa", ylim=(lowest, 1))
    lengths = {s: [n / 60 for n in v.video_lengths.seconds.values()] for s, v in stats.splits.items()}
    axes[1, 1].hist(
        list(lengths.values()), bins=15, stacked=True, label=[f"{s} ({len(n)} videos)" for s, n in lengths.items()]
    )
    axes[1, 1].set(title="Length of the videos", xlabel="minutes", ylabel="videos")
    for ax in (axes[0, 0], axes[1, 1]):
        ax.set_ylim(top=1.35 * ax.get_ylim()[1])  # room for the legend
        ax.legend(frameon=False, loc="upper left")
    axes[1, 1].yaxis.get_major_locator().set_params(integer=True)
    kind, known = path.suffix[1:].lower() or "png", figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise CalotError(f"{path}: a figure cannot be a .{kind} file.{nearest_name(kind, among=known)}")
    with whole_file(path) as part:
        figure.savefig(part, format=kind)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _bars(ax: Any, groups: dict[str, list[float]], *, names: list[str]) -> None:
    """Draw one bar per split side by side for every name, with its figure on top."""
    width = 0.8 / max(1, len(groups))
    for place, (group, values) in enumerate(groups.items()):
        at = np.arange(len(names)) + (place - (len(groups) - 1) / 2) * width
        bars = ax.bar(at, values, width=width, label=group)
        shown = "{:.2f}" if np.nanmax([0.0, *values]) <= 1 else "{:.1f}"
        ax.bar_label(
            bars,
            labels=["undefined" if np.isnan(v) else shown.format(v) for v in values],
            fontsize=9,
            color=LIGHT.muted,
        )
    ax.set_xticks(range(len(names)), names)
    ax.grid(visible=False, axis="x")
