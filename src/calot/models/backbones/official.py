"""Files of tensors under their authors' own names: which encoder a file is of, told by its tensors, and reading it.

A file is never read for another encoder than its own: names and shapes of the V-JEPA line agree far enough that the
wrong one would load and give tokens that mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from calot.errors import CalotError
from calot.models.checkpoints import read_pt, require_whole_safetensors
from calot.reading import require_file

#: Lengths of V-JEPA 1's published tables: 16 frames of 224 or of 384 pixels. V-JEPA 2's files may carry one of others.
_FIRST_TABLES = (8 * 14 * 14, 8 * 24 * 24)

#: What training wrappers put in front of a name.
_WRAPPERS = ("module.", "backbone.", "_orig_mod.")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of checkpoint: its name, and what to do where another was wanted.

    `keys`: where an official file keeps the encoder, the one to be read first. `experiment`: a shipped one that takes
    such weights.
    """

    name: str
    keys: tuple[str, ...] = ("encoder", "target_encoder", "backbone", "ema_encoder")
    differs: str = "whose encoder is another one"
    experiment: str | None = None
    remedy: str | None = None

    def instead(self, wanted: Kind) -> str:
        """What to do where weights of `wanted` were asked for."""
        if self.remedy is not None:
            return self.remedy.format(wanted=wanted.name)
        other = f", or take an experiment for these, such as {self.experiment}" if self.experiment else ""
        return f"Use {wanted.name} weights{other}."


FIRST = Kind(
    name="V-JEPA 1",
    differs="whose encoder adds positions that {wanted}'s does not have",
    remedy="Use {wanted} weights; if the file is from a rotary encoder anyway, remove pos_embed from it.",
)
SECOND = Kind(
    name="V-JEPA 2", differs="whose positions, norms and embedding are not {wanted}'s", experiment="e02_frozen_probe"
)
SECOND_1 = Kind(
    name="V-JEPA 2.1",
    keys=("ema_encoder", "target_encoder", "encoder", "backbone"),
    differs="whose positions, norms and embedding are not {wanted}'s",
    experiment="e02_vjepa21",
)
_PREDICTOR = Kind(
    name="V-JEPA predictor",
    differs="which guesses hidden tokens and encodes no clip",
    remedy="Keep the encoder's tensors under 'encoder', or name the file that holds them.",
)
_VIDEOMAE = Kind(name="VideoMAE", differs="whose positions are a table added to its tokens", experiment="videomae_lora")
_DINO = Kind(name="DINO", differs="which encodes single images", experiment="dinov3_per_frame_lora")
_IMAGES = Kind(name="image transformer's", differs="whose patches span no time", experiment="dinov3_per_frame_lora")


@dataclass(frozen=True, kw_only=True)
class OfficialEncoder:
    """An encoder's tensors under the names asked for, and the key they were found under (None: at the top)."""

    tensors: dict[str, Tensor]
    key: str | None


def read_official(
    path: Path, *, kind: Kind, names: Callable[[str, Tensor], Mapping[str, Tensor]], expected: Mapping[str, Tensor]
) -> OfficialEncoder:
    """An official file as a state dict for an encoder of ours: each tensor under what `names` calls it.

    Training wrappers (`module.`, `backbone.`) are dropped. Raises CalotError for a file of another kind, naming what
    it looks like, and naming tensors that are missing or misshapen.
    """
    require_file(path, remedy=f"docs/weights.md says which {kind.name} weights there are, and where.")
    data = _read(path)
    key = next((k for k in kind.keys if isinstance(data.get(k), dict)), None)
    tensors = dict(_tensors(data if key is None else data[key]))
    _require_kind(path, data=data, tensors=tensors, key=key, wanted=kind)
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        state |= names(name, tensor)
    missing = sorted(set(expected) - set(state))
    unknown = sorted(set(state) - set(expected))
    shapes = sorted(k for k in set(expected) & set(state) if expected[k].shape != state[k].shape)
    for what, keys in (("lacks", missing), ("has unknown", unknown), ("has another shape for", shapes)):
        if keys:
            raise CalotError(f"{path}: {what} {len(keys)} encoder tensors, first {keys[0]}; is it of another size?")
    return OfficialEncoder(tensors=state, key=key)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix != ".safetensors":
        data = read_pt(path)
        return data if isinstance(data, dict) else {}
    require_whole_safetensors(path)
    tensors: dict[str, Any] = load_file(path)
    return tensors


def _tensors(held: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Its tensors by their names without wrappers; what lies below `encoder.` beside others is the encoder."""
    for name, value in held.items():
        if isinstance(value, Tensor):
            plain = str(name)
            for wrapper in (*_WRAPPERS, "encoder."):
                plain = plain.replace(wrapper, "") if not plain.startswith("predictor") else plain
            yield plain, value


def _require_kind(
    path: Path, *, data: Mapping[str, Any], tensors: Mapping[str, Tensor], key: str | None, wanted: Kind
) -> None:
    found = recognised(tensors)
    if "ema_encoder" in data and wanted is SECOND and found in (SECOND, None):
        found = SECOND_1  # only its files keep an encoder there
    if found is wanted:
        return
    if found is None:
        held = ", ".join(sorted(str(k) for k in data)[:6]) or "nothing"
        where = "holds neither 'encoder' nor 'target_encoder'" if key is None else f"holds no encoder under {key!r}"
        raise CalotError(f"{path}: {where}; not an official {wanted.name} checkpoint (it holds {held})")
    table = tensors.get("pos_embed")
    entries = (
        f" (its table of positions has {table.shape[1]:,} entries)" if found is FIRST and table is not None else ""
    )
    under = "" if key is None or found is not _PREDICTOR else f" under {key!r}"
    article = "an" if found.name[0] in "aeiou" else "a"
    others = ", ".join(k for k in wanted.keys if k != key and isinstance(data.get(k), dict))
    also = f" The file holds {others}, too." if under and others else ""
    raise CalotError(
        f"{path}: {article} {found.name} checkpoint{entries}{under}, {found.differs.format(wanted=wanted.name)}. "
        f"{found.instead(wanted)}{also}"
    )


def recognised(tensors: Mapping[str, Tensor]) -> Kind | None:
    """What a file's tensors look like, by names free of wrappers and by shapes; None where nothing is known of them."""

    def some(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in tensors)

    table, patches = tensors.get("pos_embed"), _patches(tensors)
    if some(r"^predictor_(?:blocks|embed|norm|proj)|^mask_tokens?\.\d|^predictor\.(?!.*layer_head)"):
        return _PREDICTOR if not some(r"^blocks\.\d+\.attn\.qkv\.") else SECOND
    if some(r"norms_block\.|(?:img|video)_mod_embed|patch_embed_img\."):
        return SECOND_1
    if some(r"attn\.[qv]_bias$|decoder\.blocks\.|^decoder_to_|^encoder_to_decoder|^videomae\.|decoder_pos_embed"):
        return _VIDEOMAE
    if some(r"cls_token$|(?:register|storage)_tokens?$|\.ls\d\.gamma$|layer_scale\d\.|^dino_head\."):
        return _DINO
    if not some(r"(?:blocks|layer)\.\d+\.(?:attn|attention)\."):
        return None
    if patches is not None and patches.ndim == 4:
        return _IMAGES
    if table is not None and table.ndim == 3 and table.shape[1] in _FIRST_TABLES:
        return FIRST
    return SECOND


def _patches(tensors: Mapping[str, Tensor]) -> Tensor | None:
    return next((t for name, t in tensors.items() if name.endswith("patch_embed.proj.weight")), None)


def encoder_names(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor of the official encoder under transformers' names: a fused qkv becomes three, positions none."""
    if key == "pos_embed":  # a sine table that the rotary model does not use
        return {}
    key = key.replace("patch_embed.", "embeddings.patch_embeddings.").replace("blocks.", "layer.")
    key = key.replace(".attn.", ".attention.")
    key = "layernorm." + key.removeprefix("norm.") if key.startswith("norm.") else key
    if ".qkv." not in key:
        return {key: tensor}
    parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
    return {key.replace(".qkv.", f".{name}."): part.clone() for name, part in parts}
