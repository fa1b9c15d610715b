"""A classifier of the Critical View of Safety in one file: this needs torch and transformers, and not calot.

`AutoModel.from_pretrained(FOLDER, trust_remote_code=True)` builds it; `model(clips)` gives one raw logit per criterion
of clips as uint8 `(b, t, 3, h, w)`, in the order of `model.config.criteria`.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel


class CriteriaConfig(PretrainedConfig):  # type: ignore[misc]
    """`encoder`: transformers' own configuration; `pooling`, `head` and `normalisation`: what is put on it."""

    model_type = "calot_criteria"

    def __init__(self, encoder=None, pooling=None, head=None, criteria=(), normalisation=None, **others):  # type: ignore[no-untyped-def]
        self.encoder, self.pooling, self.head = encoder or {}, pooling or {}, head or {}
        self.criteria, self.normalisation = list(criteria), normalisation or {}
        super().__init__(**others)


class _Pooling(nn.Module):
    """The mean token, or attention of one learned query over all tokens and a LayerNorm."""

    def __init__(self, config, width):  # type: ignore[no-untyped-def]
        super().__init__()
        self.attends = config["kind"] == "attention"
        if self.attends:
            self.query = nn.Parameter(torch.empty(1, 1, width))
            self.attention = nn.MultiheadAttention(width, config["heads"], batch_first=True)
            self.norm = nn.LayerNorm(width)

    def forward(self, tokens):  # type: ignore[no-untyped-def]
        if not self.attends:
            return tokens.mean(dim=1)
        query = self.query.expand(len(tokens), -1, -1)
        return self.norm(self.attention(query, tokens, tokens, need_weights=False)[0][:, 0])


class CriteriaModel(PreTrainedModel):  # type: ignore[misc]
    """Encoder, pooling and head; adapters are merged into the encoder's weights."""

    config_class = CriteriaConfig

    def __init__(self, config):  # type: ignore[no-untyped-def]
        super().__init__(config)
        fields = dict(config.encoder)
        own = AutoConfig.for_model(fields.pop("model_type"), **fields)
        self.encoder = AutoModel.from_config(own, attn_implementation="sdpa")
        self.encoder.predictor = nn.Identity()  # guesses hidden tokens in pretraining; never in the path
        width, kinds = own.hidden_size, {"norm": nn.LayerNorm, "linear": nn.Linear, "gelu": nn.GELU}
        kinds |= {"dropout": nn.Dropout}
        self.pooling = _Pooling(config.pooling, width)  # type: ignore[no-untyped-call]
        self.head = nn.Sequential(*(kinds[kind](*sizes) for kind, sizes in config.head["layers"]))
        self.post_init()

    def forward(self, video):  # type: ignore[no-untyped-def]
        figures = (self.config.normalisation[k] for k in ("mean", "std"))
        mean, std = (torch.tensor(f, dtype=torch.float64, device=video.device).view(-1, 1, 1) for f in figures)
        clips = video.float() * (1 / (255 * std)).float() + (-mean / std).float()
        return self.head(self.pooling(self.encoder.get_vision_features(clips)))

    def probabilities(self, video):  # type: ignore[no-untyped-def]
        """Sigmoids of the logits; how far they can be taken for probabilities, the card says."""
        return F.sigmoid(self(video))
