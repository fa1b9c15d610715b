"""What training would refuse: the same code that cuts clips and asks for labels, run on the folder's own tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from calot.data.clip_rules import ClipRule
from calot.data.clips import AllFrames, CentreLabel, ClipTable, Keyframes, Protocol, build_clips
from calot.data.manifest import Manifest
from calot.data.verify.finding import Finding, Found
from calot.errors import CalotError

_PROTOCOLS: tuple[Protocol, ...] = (Keyframes(), AllFrames())
_RULES = (ClipRule(), ClipRule().shortened(0.5))  # full size and tiny
_REMEDY = "Training selects its best epoch on val and learns from train: give each what the message asks for."


def check_training(manifest: Manifest) -> Found:
    """Findings where `calot train`, `stats` or `predict` would refuse the folder under either protocol."""
    said = dict.fromkeys(message for protocol in _PROTOCOLS for message in _refusals(manifest, protocol=protocol))
    findings = [Finding(check="training", file=".", message=message, remedy=_REMEDY) for message in said]
    return Found(findings=tuple(findings))


def _refusals(manifest: Manifest, *, protocol: Protocol) -> Iterator[str]:
    splits = dict.fromkeys(("train", "val", *manifest.splits))
    for split in splits:
        for rule in _RULES:
            try:
                table = _clips(manifest, split=split, protocol=protocol, rule=rule)
                for demand in _DEMANDS.get(split, ()):
                    demand(table)
            except CalotError as error:
                yield f"{protocol.name}: {error}"


def _clips(manifest: Manifest, *, split: str, protocol: Protocol, rule: ClipRule) -> ClipTable:
    return build_clips(
        manifest, split=split, protocol=protocol, rule=rule, label_rule=CentreLabel(), training=split == "train"
    )


_DEMANDS: dict[str, tuple[Callable[[ClipTable], None], ...]] = {
    "val": (ClipTable.require_labels, ClipTable.require_positives)
}
