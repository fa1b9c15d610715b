"""Under autocast, weights that do not train are cast to half precision once, not in every pass.

autocast keeps a weight's cast only where the weight trains, and only for one forward pass: a frozen backbone's would be
read in float32 and cast again for each micro-batch. What is computed is the same to the bit. The float32 weights stay,
for a stage that trains them and for checkpoints; the casts take half their memory besides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CASTS = "calot_half_casts"


class _FrozenCasts(nn.Linear):
    """A linear that keeps its cast weight and bias for as long as they do not train or change."""

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if not torch.is_autocast_enabled(kind) or self.weight.requires_grad:
            vars(self).pop(_CASTS, None)
            return super().forward(input)
        dtype = torch.get_autocast_dtype(kind)
        tensors = [t for t in (self.weight, self.bias) if t is not None]
        key = (dtype, *((t.data_ptr(), t._version, t.requires_grad) for t in tensors))
        held = vars(self).get(_CASTS)
        if held is None or held[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                held = vars(self)[_CASTS] = (key, *(t.detach().to(dtype) for t in tensors))
        bias = self.bias if self.bias is not None and self.bias.requires_grad else (*held, None)[2]
        return F.linear(input, held[1], bias)


def cast_frozen_once(model: nn.Module) -> None:
    """Have every plain linear of a model keep the half-precision form of what does not train."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = _FrozenCasts
