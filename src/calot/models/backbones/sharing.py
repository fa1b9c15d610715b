"""What a family of backbones says where its network is one of transformers' own: an export asks for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor


class Sharing:
    """The part of a `BackboneSpec` about being loaded without calot."""

    name: ClassVar[str]

    @property
    def unshared(self) -> str | None:
        """Why transformers alone cannot build this network, or None where it can."""
        return f"{self.name} is read in calot's own way"

    def shared(self, network: Any) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """transformers' configuration of a network of this family, adapters merged, and its tensors under transformers'
        own names. Needs `unshared` to be None."""
        raise NotImplementedError(self.unshared)
