"""Masked latent prediction written out: V-JEPA 2's encoder, predictor and loss from tensors by name, in their dtype.

Nothing of calot or of transformers is called: matrix products, sines and cosines, one clip at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


def normalised(x: Tensor, *, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def norm(x: Tensor, tensors: Tensors, name: str) -> Tensor:
    return normalised(x, eps=1e-6) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def linear(x: Tensor, tensors: Tensors, name: str) -> Tensor:
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def rotated(x: Tensor, places: Sequence[int], side: int) -> Tensor:
    """Rotary positions of one head's rows: thirds of the width for time, row and column; the published pairing."""
    width = x.shape[-1]
    third = 2 * ((width // 3) // 2)
    out = x.clone()
    for row, place in enumerate(places):
        axes = (place // side**2, place % side**2 // side, place % side)
        for axis, position in enumerate(axes):
            for i in range(third):
                at = axis * third + i
                angle = position / 10000 ** ((i % (third // 2)) / (third / 2))
                other = -x[row, at + 1] if i % 2 == 0 else x[row, at - 1]
                out[row, at] = x[row, at] * math.cos(angle) + other * math.sin(angle)
    return out


def layer(x: Tensor, tensors: Tensors, name: str, *, heads: int, places: Sequence[int], side: int) -> Tensor:
    inner = norm(x, tensors, f"{name}.norm1")
    parts = []
    q, k, v = (linear(inner, tensors, f"{name}.attention.{part}") for part in ("query", "key", "value"))
    for head in torch.arange(x.shape[-1]).chunk(heads):
        one, other = rotated(q[:, head], places, side), rotated(k[:, head], places, side)
        parts.append((one @ other.T / math.sqrt(len(head))).softmax(-1) @ v[:, head])
    x = x + linear(torch.cat(parts, -1), tensors, f"{name}.attention.proj")
    inner = linear(norm(x, tensors, f"{name}.norm2"), tensors, f"{name}.mlp.fc1")
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return x + linear(inner, tensors, f"{name}.mlp.fc2")


def layers_of(tensors: Tensors, prefix: str) -> int:
    return 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in tensors if n.startswith(prefix))


def embedded(video: Tensor, tensors: Tensors) -> Tensor:
    """Patches of a normalised clip (t 3 h w) as rows, in the order time, row, column."""
    kernel = tensors["encoder.embeddings.patch_embeddings.proj.weight"]
    frames, high, wide = kernel.shape[2:]
    rows = [
        video[t : t + frames, :, y : y + high, x : x + wide].transpose(0, 1).flatten()
        for t in range(0, video.shape[0], frames)
        for y in range(0, video.shape[2], high)
        for x in range(0, video.shape[3], wide)
    ]
    return torch.stack(rows) @ kernel.flatten(1).T + tensors["encoder.embeddings.patch_embeddings.proj.bias"]


def encoded(video: Tensor, tensors: Tensors, *, places: Sequence[int], heads: int, side: int) -> Tensor:
    x = embedded(video, tensors)[list(places)]
    for number in range(layers_of(tensors, "encoder.layer.")):
        x = layer(x, tensors, f"encoder.layer.{number}", heads=heads, places=places, side=side)
    return norm(x, tensors, "encoder.layernorm")


def guessed(seen: Tensor, tensors: Tensors, *, context: Sequence[int], targets: Sequence[int], heads: int, side: int):
    """The predictor's guesses: the context's rows, one mask token per target, all with their places."""
    prefix = "fresh.predictor"
    rows = linear(seen, tensors, f"{prefix}.embeddings.predictor_embeddings")
    mask = tensors[f"{prefix}.embeddings.mask_tokens"][1, 0]
    x = torch.cat([rows, mask.expand(len(targets), -1)])
    for number in range(layers_of(tensors, f"{prefix}.layer.")):
        x = layer(x, tensors, f"{prefix}.layer.{number}", heads=heads, places=[*context, *targets], side=side)
    return linear(norm(x, tensors, f"{prefix}.layernorm")[len(context) :], tensors, f"{prefix}.proj")


def plain_loss(
    videos: Tensor,
    tensors: Tensors,
    teacher: Tensors,
    hidden: Mapping[str, tuple[list[list[int]], list[list[int]]]],
    *,
    heads: int,
    predictor_heads: int,
    side: int,
) -> dict[str, Tensor]:
    """By kind of mask, mean |guess - target| over clips, hidden tokens and features."""
    found = {}
    for kind, (contexts, targets) in hidden.items():
        differences = []
        for video, context, asked in zip(videos, contexts, targets, strict=True):
            every = range(len(embedded(video, tensors)))
            wanted = normalised(encoded(video, teacher, places=every, heads=heads, side=side), eps=1e-5).detach()
            seen = encoded(video, tensors, places=context, heads=heads, side=side)
            how = {"context": context, "targets": asked, "heads": predictor_heads, "side": side}
            differences.append((guessed(seen, tensors, **how) - wanted[asked]).abs())
        found[kind] = torch.stack(differences).mean()
    return found
