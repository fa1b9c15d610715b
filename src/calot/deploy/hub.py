"""A folder for a model hub: safetensors, configuration, model card, and one Python file that builds the model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calot.criteria import CRITERIA
from calot.deploy import hub_model
from calot.deploy.formats import Format, Scores
from calot.deploy.scorer import Exportable, PortableModel
from calot.models.backbones.protocol import Backbone
from calot.models.pooling import AttentivePooling, MeanPooling, Pooling
from calot.models.tensor_files import save_tensors
from calot.types import CRITERIA_HEAD
from calot.writing import write_json

CODE = "modeling_calot.py"
#: peft's folder of a run's adapter, beside the merged weights.
ADAPTER = "adapter"

#: A head's layers by the names that the folder's file knows, and what each is built with.
_LAYERS: Mapping[type[nn.Module], Any] = {
    nn.LayerNorm: lambda layer: ["norm", [layer.normalized_shape[0]]],
    nn.Linear: lambda layer: ["linear", [layer.in_features, layer.out_features]],
    nn.GELU: lambda layer: ["gelu", []],
    nn.Dropout: lambda layer: ["dropout", [layer.p]],
}


class HubFolder(Format):
    """`config.json`, `model.safetensors` (adapters merged), `modeling_calot.py`; beside them peft's own adapter."""

    name = "hf"

    def unfit(self, run: Exportable) -> str | None:
        spec, pooling, head = run.experiment.backbone, run.experiment.pooling, run.model.get_submodule(CRITERIA_HEAD)
        if run.experiment.masking is not None:
            return f"{type(run.experiment.masking).__name__} takes a mask, and a hub's model takes clips alone"
        if spec.unshared is not None:
            return f"{spec.unshared}, and transformers has no such network"
        if _pooling(pooling) is None:
            return f"{type(pooling).__name__} is not a pooling that the folder's file knows"
        if not isinstance(head, nn.Sequential) or any(type(layer) not in _LAYERS for layer in head):
            return f"the head {type(run.experiment.head).__name__} is built of more than linears, norms and GELU"
        return None

    def write(self, run: Exportable, folder: Path) -> dict[str, Any]:
        model, spec = PortableModel(run.model).model, run.experiment.backbone
        config, tensors = spec.shared(model.backbone.model)
        head: Any = model.get_submodule(CRITERIA_HEAD)
        (view,) = spec.views
        write_json(
            folder / "config.json",
            {
                "architectures": ["CriteriaModel"],
                "auto_map": {
                    "AutoConfig": f"{Path(CODE).stem}.CriteriaConfig",
                    "AutoModel": f"{Path(CODE).stem}.CriteriaModel",
                },
                "model_type": hub_model.CriteriaConfig.model_type,
                "encoder": _plain(config),
                "pooling": _pooling(run.experiment.pooling),
                "head": {"layers": [_LAYERS[type(layer)](layer) for layer in head]},
                "criteria": list(CRITERIA),
                "normalisation": {"mean": list(view.mean), "std": list(view.std)},
                "frames": view.frames,
                "size": view.size,
                "dtype": "float32",
            },
        )
        whole = {f"encoder.{name}": tensor for name, tensor in tensors.items()}
        whole |= {f"pooling.{name}": tensor for name, tensor in model.pooling.state_dict().items()}
        whole |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
        _save(whole, folder / "model.safetensors")
        shutil.copyfile(hub_model.__file__, folder / CODE)
        if isinstance(run.model.backbone, Backbone) and run.model.backbone.adapter is not None:
            from calot.models.adaptation import save_adapter

            save_adapter(run.model.backbone, folder / ADAPTER)
        return {"class": "AutoModel, trust_remote_code=True", "adapter": (folder / ADAPTER).is_dir()}

    def scores(self, folder: Path) -> Scores:
        from transformers import AutoModel

        from calot.models.checkpoints import without_bars

        with without_bars():
            model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()

        def run(video: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.no_grad():
                return model(torch.from_numpy(video)).numpy()  # type: ignore[no-any-return]

        return run


def _pooling(pooling: Pooling) -> dict[str, Any] | None:
    if isinstance(pooling, AttentivePooling):
        return {"kind": "attention", "heads": pooling.heads}
    return {"kind": "mean"} if isinstance(pooling, MeanPooling) else None


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what names this machine's files or library versions."""
    return {
        k: v for k, v in config.items() if not k.startswith("_") and k not in ("transformers_version", "architectures")
    }


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_tensors({name: tensor.detach().float().clone() for name, tensor in tensors.items()}, path, of_torch=True)
