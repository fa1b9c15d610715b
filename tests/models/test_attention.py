import copy
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import VJEPA2Config, VJEPA2Model

from calot.errors import CalotError
from calot.models.attention import biased, tapped
from calot.models.attention_statistics import attention_entropy, attention_mass
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.vjepa2 import VJEPA2
from calot.types import QueryKey

TINY = VJEPA2(weights=None, size=64, frames=8, patch=8, width=128, layers=4, heads=2)
LORA = LoraConfig(r=4, target_modules=r"(?:.*\.)?encoder\.layer\.\d+\.attention\.(query|key|value)")
TOKENS = 4 * 8 * 8


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    built = TINY.build()
    for name, weight in built.named_parameters():  # sharper than the initial 0.02, so that attention is not uniform
        if name.endswith(("query.weight", "key.weight")):
            nn.init.normal_(weight, std=0.15)
    return built.train()


@pytest.fixture
def clip() -> Tensor:
    return torch.randn(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def _adapted(backbone: Backbone, *, b_std: float) -> Backbone:
    """LoRA on q, k, v whose B is drawn with this deviation; 0 is where training starts."""
    backbone.model = get_peft_model(backbone.model, LORA)
    for name, weight in backbone.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=b_std)
    return backbone


def _checkpointed(backbone: Backbone, *, reentrant: bool = False) -> Backbone:
    backbone.model.activation_checkpointing_enable({"use_reentrant": reentrant})
    return backbone


def _attention(backbone: Backbone, layer: int) -> nn.Module:
    return next(m for n, m in backbone.named_modules() if n.endswith(f"encoder.layer.{layer}.attention"))


def _entropy_gradients(backbone: Backbone, clip: Tensor, *, layer: int = -1) -> dict[str, Tensor]:
    """The gradient of one layer's mean entropy alone into every parameter it reaches."""
    backbone.zero_grad()
    with tapped(backbone, layers=(layer,)) as seen:
        backbone(clip)
    attention_entropy(seen[layer]).mean().backward()
    return {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def _key_bias(*, hidden: int, b: int = 2) -> Tensor:
    """Hides the first tokens."""
    return torch.where(torch.arange(TOKENS) < hidden, -1e4, 0.0).expand(b, 1, 1, TOKENS)


def test_without_a_seam_outputs_and_gradients_equal_sdpa_bit_for_bit(backbone: Backbone, clip: Tensor) -> None:
    plain = copy.deepcopy(backbone)
    plain.model.set_attn_implementation("sdpa")
    with tapped(backbone, layers=range(4)):
        ours, theirs = backbone(clip).values, plain(clip).values
    assert torch.equal(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    gradients = zip(backbone.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in gradients)


def test_attention_dropout_is_passed_through(clip: Tensor) -> None:
    fields = TINY.build_without_weights().model.config.to_dict() | {"attention_probs_dropout_prob": 0.5}
    outputs = []
    for implementation in ("sdpa", "calot"):
        torch.manual_seed(0)
        model = VJEPA2Model(VJEPA2Config(**fields, attn_implementation=implementation)).train()
        outputs += [model.encoder(clip).last_hidden_state, model.eval().encoder(clip).last_hidden_state]
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])
    assert not torch.allclose(outputs[0], outputs[1]), "dropout must act, or this test is blind"


@pytest.mark.parametrize("hidden", [0, 100], ids=["plain", "biased"])
def test_tapped_queries_and_keys_rebuild_the_modules_real_output(backbone: Backbone, clip: Tensor, hidden: int) -> None:
    attention, caught = _attention(backbone, 2), {}
    attention.value.register_forward_hook(lambda _m, _i, out: caught.update(value=out))
    attention.proj.register_forward_pre_hook(lambda _m, args: caught.update(output=args[0]))
    with biased(backbone, bias=_key_bias(hidden=hidden)), tapped(backbone, layers=(2,)) as seen:
        backbone(clip)
    qk, value = seen[2], caught["value"].unflatten(-1, (2, 64)).transpose(1, 2)
    attended = torch.softmax(qk.scaling * qk.query @ qk.key.mT + qk.bias, dim=-1) @ value
    torch.testing.assert_close(attended.transpose(1, 2).flatten(2), caught["output"], rtol=1e-5, atol=1e-6)
    assert (attended[..., :1, :] - attended).abs().max() > 1e-2, "attention must not be uniform, or this test is blind"


def test_pitfall_hooks_that_read_the_base_layer_under_lora(backbone: Backbone, clip: Tensor) -> None:
    """The study's entropy came from the base layer: it cannot see an adapter at all."""
    read = {}
    for b_std in (0.0, 0.3):
        adapted = _adapted(copy.deepcopy(backbone), b_std=b_std)
        _attention(adapted, 0).query.base_layer.register_forward_hook(
            lambda _m, _i, out, b_std=b_std: read.update({("base", b_std): out})
        )
        with tapped(adapted, layers=(0,)) as seen:
            adapted(clip)
        read["tap", b_std] = seen[0].query
    with tapped(backbone, layers=(0,)) as seen:
        backbone(clip)
    assert torch.equal(read["base", 0.0], read["base", 0.3])
    assert torch.equal(read["tap", 0.0], seen[0].query)
    assert (read["tap", 0.3] - read["tap", 0.0]).abs().max() > 0.1


def test_a_term_on_queries_and_keys_trains_their_adapters_and_not_the_layers_values(
    backbone: Backbone, clip: Tensor
) -> None:
    adapted = _adapted(backbone, b_std=0.1)
    reached = set(_entropy_gradients(adapted, clip, layer=2))
    of_layer = {n.split("layer.2.attention.")[1].split(".")[0] for n in reached if "layer.2.attention." in n}
    assert of_layer == {"query", "key"}
    assert all("lora_" in n for n in reached)
    assert not any("layer.3." in n for n in reached)
    assert any("layer.1.attention.value" in n for n in reached), "layers below feed this one through their values too"


@pytest.mark.parametrize("adapt", [False, True], ids=["full", "lora"])
def test_gradient_checkpointing_gives_the_same_gradients_and_each_tap_once(
    backbone: Backbone, clip: Tensor, adapt: bool
) -> None:
    plain = _adapted(backbone, b_std=0.1) if adapt else backbone
    expected = _entropy_gradients(plain, clip)
    got = _entropy_gradients(_checkpointed(copy.deepcopy(plain)), clip)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-7)


def test_the_backward_pass_inside_the_context_does_not_replace_what_was_tapped(
    backbone: Backbone, clip: Tensor
) -> None:
    with tapped(_checkpointed(backbone), layers=(1, -1)) as seen:
        values = backbone(clip).values
        first = dict(seen)
        (values.sum() + attention_entropy(seen[1]).mean()).backward()
    assert all(seen[i] is first[i] for i in (1, -1))


def test_a_bias_holds_in_the_recomputed_layer_also_after_its_context(backbone: Backbone, clip: Tensor) -> None:
    gradients = []
    for model in (backbone, _checkpointed(copy.deepcopy(backbone))):
        with biased(model, bias=_key_bias(hidden=100)):
            values = model(clip).values
        values.square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_reentrant_checkpointing_is_refused_because_it_would_detach_the_tap(backbone: Backbone, clip: Tensor) -> None:
    with tapped(_checkpointed(backbone, reentrant=True)), pytest.raises(CalotError, match="use_reentrant"):
        backbone(clip.requires_grad_())


def test_taps_under_autocast_are_what_the_kernel_got_and_carry_gradient(backbone: Backbone, clip: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), tapped(backbone) as seen:
        backbone(clip)
        entropy = attention_entropy(seen[-1])
    qk = seen[-1]
    assert qk.query.dtype == torch.bfloat16
    assert entropy.dtype == torch.float32
    exact = torch.log_softmax(qk.scaling * qk.query.double() @ qk.key.double().mT, dim=-1)
    torch.testing.assert_close(entropy.double(), -(exact.exp() * exact).sum(-1), rtol=1e-5, atol=1e-5)
    entropy.mean().backward()
    assert _attention(backbone, 3).query.weight.grad.abs().max() > 0


def test_a_bias_under_autocast_takes_the_queries_type(backbone: Backbone, clip: Tensor) -> None:
    hidden = _key_bias(hidden=100)
    with torch.autocast("cpu", dtype=torch.bfloat16), biased(backbone, bias=hidden), tapped(backbone) as seen:
        backbone(clip)
    mass = attention_mass(seen[-1], (torch.arange(TOKENS) < 100).float().expand(2, TOKENS))
    assert mass.max() == 0


def test_a_hidden_token_gets_no_attention_in_the_chosen_layers_alone(backbone: Backbone, clip: Tensor) -> None:
    hidden = (torch.arange(TOKENS) < 100).float().expand(2, TOKENS)
    with biased(backbone, bias=_key_bias(hidden=100), layers=(1, -1)), tapped(backbone, layers=range(4)) as seen:
        biased_values = backbone(clip).values
    mass = [attention_mass(seen[i], hidden).mean().item() for i in range(4)]
    assert mass[1] == mass[3] == 0
    assert min(mass[0], mass[2]) > 0.2
    assert (backbone(clip).values - biased_values).abs().max() > 1e-2


def test_a_bias_of_log_2_doubles_the_odds_of_a_token_set(backbone: Backbone, clip: Tensor) -> None:
    chosen = (torch.arange(TOKENS) < 100).float().expand(2, TOKENS)
    masses = []
    for strength in (0.0, math.log(2.0)):
        with (
            biased(backbone, bias=strength * chosen[:, None, None], layers=(0,)),
            tapped(backbone, layers=(0,)) as seen,
        ):
            backbone(clip)
        masses.append(attention_mass(seen[0], chosen))
    torch.testing.assert_close(masses[1], 2 * masses[0] / (1 + masses[0]), rtol=1e-5, atol=1e-5)


def test_biases_of_nested_calls_add_up_and_leave_when_their_context_ends(backbone: Backbone, clip: Tensor) -> None:
    bias = torch.randn(2, 1, 1, TOKENS, generator=torch.Generator().manual_seed(2))
    before = backbone(clip).values
    with biased(backbone, bias=bias), biased(backbone, bias=2 * bias):
        nested = backbone(clip).values
    with biased(backbone, bias=3 * bias):
        torch.testing.assert_close(nested, backbone(clip).values)
    with pytest.raises(KeyError), biased(backbone, bias=bias):
        raise KeyError
    assert torch.equal(backbone(clip).values, before)
    assert not torch.allclose(nested, before)


def test_a_context_of_micro_batches_holds_the_latest_pass_of_each_layer(backbone: Backbone, clip: Tensor) -> None:
    with tapped(backbone, layers=(0, 3, -1)) as seen:
        for part in clip:
            backbone(part[None])
    assert {k: tuple(v.query.shape) for k, v in seen.items()} == dict.fromkeys((0, 3, -1), (1, 2, TOKENS, 64))
    assert seen[3].query is seen[-1].query
    assert isinstance(seen[0], QueryKey)


def test_the_predictors_layers_are_never_taken_for_the_encoders() -> None:
    fields = TINY.build_without_weights().model.config.to_dict() | {"pred_num_hidden_layers": 3}
    whole = Backbone(VJEPA2Model(VJEPA2Config(**fields, attn_implementation="calot")), spec=TINY)
    with tapped(whole, layers=range(4)) as seen:
        whole(torch.zeros(1, 8, 3, 64, 64))
    assert sorted(seen) == [0, 1, 2, 3]
    with pytest.raises(CalotError, match="no layer 4; give -4 to 3"), tapped(whole, layers=(0, 4)):
        pass


def test_models_without_a_seam_and_useless_biases_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"), biased(backbone, bias=torch.full((1, 1, 1, 4), -math.inf)):
        pass
    with pytest.raises(CalotError, match="holds 0 backbones"), tapped(nn.Linear(2, 2)):
        pass
    backbone.model.set_attn_implementation("sdpa")
    with pytest.raises(CalotError, match="'sdpa', which has no seam"), tapped(backbone):
        pass


def test_a_saved_configuration_names_no_implementation_that_others_lack(backbone: Backbone) -> None:
    assert "calot" not in backbone.model.config.to_json_string(use_diff=False)
