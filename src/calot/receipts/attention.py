"""Check 7: the queries and keys that supervision reads rebuild what the layer puts out, and answer a known map."""

from __future__ import annotations

import torch

from calot.experiment import Experiment
from calot.models.attention import reading
from calot.models.attention_statistics import attention_entropy, received_attention
from calot.models.masking import AttentionBias
from calot.provenance.evidence import InstrumentReading, InstrumentsEvidence, PlantedMap
from calot.provenance.receipt import ReceiptCheck
from calot.receipts.probe import ProbeData, clean_batch, trainer_for
from calot.run.request import Request
from calot.run.trainer import Trainer
from calot.types import Batch, QueryKey, is_anatomy

_CLOSE = 1e-4


def instruments_check(experiment: Experiment, *, request: Request, data: ProbeData) -> ReceiptCheck:
    """Rebuild the output of every attention layer that the experiment reads or biases."""
    layers = experiment.observed_layers
    biased = isinstance(experiment.masking, AttentionBias)
    if not layers and not biased:
        return ReceiptCheck(name="instruments", status="not applicable", why="nothing reads or changes attention")
    trainer = trainer_for(experiment, request=request, data=data)
    trainer.groups(experiment.stages[-1])
    _stir(trainer)
    readings = tuple(_rebuilt(trainer, n) for n in (layers or (-1,)))
    planted = _planted_map()
    problems = [
        f"layer {r.layer}: its queries and keys do not rebuild its output (apart by {r.apart:.2g})"
        for r in readings
        if not r.apart < _CLOSE
    ]
    if not planted.read:
        problems.append("a map planted on one token is not read as one")
    if biased and not any(r.biased for r in readings):
        problems.append("no bias reaches the attention scores")
    why = "; ".join(problems) or f"layers {[r.layer for r in readings]} rebuild their output; a planted map is read"
    return ReceiptCheck(
        name="instruments",
        status="failed" if problems else "passed",
        why=why,
        evidence=InstrumentsEvidence(layers=readings, planted=planted),
    )


def _stir(trainer: Trainer) -> None:
    """Give adapters weights other than their first, so that reading the base layer under them would show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in trainer.model.backbone.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)


@torch.no_grad()
def _rebuilt(trainer: Trainer, number: int) -> InstrumentReading:
    """softmax(q k) v of what supervision is handed, against what this very layer hands to its output projection."""
    model = trainer.model.train()  # true masks decide a bias; what dropout an adapter draws is in what is read
    batch = _with_most_anatomy(clean_batch(trainer), count=2)
    with reading(model.backbone, layer=number) as layer:
        outputs = model(batch)
    if outputs.attention:
        layer.query_key = outputs.attention[number]
    assert layer.mixed is not None
    assert layer.query_key is not None
    rebuilt, mixed = layer.rebuilt(), layer.mixed.flatten(2)
    apart, bias = float((rebuilt - mixed).norm() / mixed.norm()), layer.query_key.bias
    return InstrumentReading(layer=number, apart=apart, biased=bias is not None and bool(bias.any()))


def _with_most_anatomy(batch: Batch, *, count: int) -> Batch:
    """The clips whose masks hold most of it: a mask without any hides nothing, and its bias is zero everywhere."""
    if batch.masks is None:
        return batch.split(count)[0]
    seen = is_anatomy(batch.masks.values).flatten(1).sum(dim=1)
    return batch.of(seen.argsort(descending=True, stable=True)[:count])


def _planted_map() -> PlantedMap:
    """Every query looks at token 5 of 16: entropy 0, and all attention is received there."""
    key = torch.eye(16)[None, None] * 40.0
    query = torch.zeros(1, 1, 16, 16)
    query[..., 5] = 40.0
    qk = QueryKey(query=query, key=key, scaling=0.25)
    entropy, received = float(attention_entropy(qk).abs().max()), float(received_attention(qk)[0, 5])
    return PlantedMap(entropy=entropy, received=received, read=entropy < 1e-3 and received > 0.999)
