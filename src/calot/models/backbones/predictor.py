"""V-JEPA 2's predictor (Assran et al. 2025, sec. 2.1): a narrow transformer that guesses tokens nobody showed it.

transformers' own `VJEPA2Predictor`, given what an encoder makes of some tokens. Published weights hold it beside the
encoder; classification never reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from jaxtyping import Float, Int
from torch import Tensor

from calot.config.fields import Range, Size
from calot.models.dropout import Regularised
from calot.types import Hidden

#: Width of a head that three rotary axes need.
_LEAST = 6


@dataclass(frozen=True, kw_only=True)
class Predictor(Regularised):
    """The predictor's shape. Defaults: as published, for every size of the encoder."""

    layers: Annotated[int, Range(ge=1, le=1000)] = 12
    width: Size = 384
    heads: Annotated[int, Range(ge=1, le=1024)] = 12
    mlp_ratio: Annotated[float, Range(ge=0.25, le=64)] = 4.0

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads < _LEAST:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}, at least {_LEAST} each")

    def __str__(self) -> str:
        return f"a predictor of {self.layers} layers, width {self.width}"

    def shape(self) -> dict[str, Any]:
        """Fields of transformers' configuration; weights that hold a predictor must agree with them."""
        return {
            "pred_num_hidden_layers": self.layers,
            "pred_hidden_size": self.width,
            "pred_num_attention_heads": self.heads,
            "pred_mlp_ratio": self.mlp_ratio,
        }

    def scaled(self, *, depth: float, width: float, heads: float) -> Predictor:
        """The same beside an encoder of these shares of the one it was written for."""
        number = max(1, round(self.heads * heads))
        each = max(_LEAST, round(self.width * width / number))
        return replace(self, layers=max(1, round(self.layers * depth)), width=number * each, heads=number)


def tokens_at(tokens: Float[Tensor, "b n d"], places: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
    """Some tokens of each clip."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def predicted_tokens(
    network: Any, predictor: Any, embedded: Float[Tensor, "b n d"], *, hidden: Mapping[str, Hidden]
) -> dict[str, Float[Tensor, "b _ d"]]:
    """Of embedded clips, what the predictor gives for each kind's targets from the context's tokens alone.

    The context is chosen before the first layer, and its tokens keep their positions. transformers' predictor takes
    tokens of the whole grid and chooses the context's itself: the others are zeros here, and never read.
    """
    found = {}
    for name, asked in hidden.items():
        seen = tokens_at(embedded, asked.context)
        for layer in network.encoder.layer:
            seen = layer(seen, asked.context)[0]
        seen = network.encoder.layernorm(seen)
        places = asked.context[..., None].expand(-1, -1, seen.shape[-1])
        whole = seen.new_zeros(*embedded.shape[:2], seen.shape[-1]).scatter(1, places, seen)
        found[name] = predictor(whole, [asked.context], [asked.targets]).last_hidden_state
    return found
