"""What a family of backbones says where its tokens can be predicted from others: pretraining asks for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from calot.errors import CalotError
from calot.types import Hidden


class Predicting:
    """The part of a `BackboneSpec` about a predictor, which guesses tokens that the encoder is not shown."""

    name: ClassVar[str]

    @property
    def predicts(self) -> bool:
        """Whether it has a predictor."""
        return False

    @property
    def unpredictable(self) -> str:
        """Why it has none, and what to do."""
        return f"{self.name} has no predictor: set backbone.predictor, or take a family of backbone with that field"

    def predicted(
        self, network: Any, video: Float[Tensor, "b t c h w"], *, hidden: Mapping[str, Hidden]
    ) -> dict[str, Float[Tensor, "b _ d"]]:
        """The targets' tokens, predicted from what the encoder makes of the context's alone; of normalised clips."""
        raise CalotError(self.unpredictable)

    def write(self, network: Any, folder: Path) -> None:
        """Write a network, predictor included, as a folder of the library that reads this family's weights."""
        raise CalotError(f"no weights can be written: {self.unpredictable}")

    def standardise(self, network: Any, *, mean: Tensor, deviation: Tensor) -> None:
        """Give each feature of a network's tokens (width,) the mean 0 and the deviation 1 where it had these, exactly,
        and leave what the predictor says of them as it was."""
        raise CalotError(f"its features cannot be standardised: {self.unpredictable}")
