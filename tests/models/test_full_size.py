import pytest
import torch

from calot.models.backbones.vjepa2 import VJEPA2


@pytest.mark.long
def test_the_full_size_encoder_runs_one_clip_on_a_cpu_and_gives_2048_tokens_of_1024() -> None:
    """ViT-L with random weights in fp32: about 14 s and 2 GB on two cores."""
    spec = VJEPA2(weights=None)
    with torch.no_grad():
        tokens = spec.build().eval()(torch.randn(1, 16, 3, 256, 256))
    assert tokens.values.shape == (1, 2048, 1024)
    assert tokens.grid == (8, 16, 16)
    assert torch.isfinite(tokens.values).all()
