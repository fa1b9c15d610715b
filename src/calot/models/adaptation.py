"""What of the backbone trains, and at which learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate, under the name that receipts and logs use."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    lr: float


@dataclass(frozen=True, kw_only=True)
class Adaptation(ABC):
    """Prepares a backbone in place and names what trains."""

    @abstractmethod
    def apply(self, backbone: nn.Module) -> tuple[ParameterGroup, ...]:
        """Set `requires_grad` throughout the backbone and return its trainable groups."""


@dataclass(frozen=True, kw_only=True)
class Frozen(Adaptation):
    """Nothing of the backbone trains; it runs in evaluation mode without a graph."""

    def apply(self, backbone: nn.Module) -> tuple[ParameterGroup, ...]:
        backbone.requires_grad_(False)
        return ()


@dataclass(frozen=True, kw_only=True)
class FullFineTune(Adaptation):
    """The whole encoder trains at `lr`."""

    lr: float = 1e-4

    def apply(self, backbone: nn.Module) -> tuple[ParameterGroup, ...]:
        backbone.requires_grad_(True)
        return (ParameterGroup("backbone", tuple(backbone.parameters()), self.lr),)
