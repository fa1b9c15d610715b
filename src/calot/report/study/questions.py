"""What the study asked, what it concluded wrongly, and which runs answer: names of experiments, no numbers of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calot.criteria import CYSTIC_PLATE, HEPATOCYSTIC_TRIANGLE


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One experiment minus another; `about` says what is put to the test. `criteria`: whose AP is shown as well."""

    a: str
    b: str
    about: str
    criteria: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class StudyQuestion:
    """A question with the contrasts that answer it; `attention`: experiments whose attention says more."""

    anchor: str
    title: str
    asked: str
    contrasts: Sequence[Contrast]
    attention: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class WrongConclusion(StudyQuestion):
    """What was claimed, and what an audit of the study's code found."""

    claimed: str
    audit: str


_LORA = ("lora_q", "lora_k", "lora_v", "lora_qk")

QUESTIONS: tuple[StudyQuestion, ...] = (
    StudyQuestion(
        anchor="local",
        title="Does local attention beat global attention for surgical anatomy?",
        asked="The same pretrained encoder and recipe, with windows in place of or beside global attention.",
        contrasts=(
            Contrast(a="e15_vjepa_window", b="e12_regularized", about="windows within a temporal bin, not global"),
            Contrast(a="frames16_window", b="e12_regularized", about="shifted windows over all bins, not global"),
            Contrast(a="e15_window_parallel", b="e12_regularized", about="windows beside global attention"),
            Contrast(a="e13_window_vit", b="e12_regularized", about="a window transformer from scratch, not V-JEPA 2"),
        ),
        attention=("e12_regularized", "e15_vjepa_window", "frames16_window", "e15_window_parallel"),
    ),
    StudyQuestion(
        anchor="lora",
        title="Can LoRA change attention, or only values?",
        asked="Adapters on queries, keys, values or several of them at equal numbers of parameters. Scores alone "
        "cannot tell whether attention moved; the change of attention, the size of the update and CKA can.",
        contrasts=(
            *(
                Contrast(a=n, b="e10b_lora_r32_qkv", about=f"{n.removeprefix('lora_')} alone, not q, k, v")
                for n in _LORA
            ),
            Contrast(a="lora_qk", b="lora_v", about="q and k, not v"),
            Contrast(a="lora_q", b="lora_v", about="q, not v"),
            Contrast(a="lora_k", b="lora_v", about="k, not v"),
            Contrast(a="e10a_lora_r16", b="e09_stage_one", about="adapters at all"),
            Contrast(a="e10b_lora_r32_qkv", b="e10a_lora_r16", about="rank 32 on q, k, v, not 16 on q, v"),
        ),
        attention=(*_LORA, "e10b_lora_r32_qkv", "e10a_lora_r16", "e09_stage_one"),
    ),
    StudyQuestion(
        anchor="frames",
        title="Temporal context or spatial focus: 5 or 16 frames, global or window?",
        asked="Four experiments that differ in the number of frames, in attention, or in both.",
        contrasts=(
            Contrast(a="frames5_global", b="e12_regularized", about="5 frames, not 16, under global attention"),
            Contrast(a="frames5_window", b="frames16_window", about="5 frames, not 16, under windows"),
            Contrast(a="frames16_window", b="e12_regularized", about="windows, not global, with 16 frames"),
            Contrast(a="frames5_window", b="frames5_global", about="windows, not global, with 5 frames"),
        ),
    ),
    StudyQuestion(
        anchor="hybrid",
        title="Does the hybrid beat each of its parts?",
        asked="SwinV2 on each frame, then V-JEPA 2's last blocks over time, against either alone.",
        contrasts=(
            Contrast(a="e14_hybrid", b="e12_regularized", about="the hybrid, not V-JEPA 2 alone"),
            Contrast(a="e14_hybrid", b="swincvs_frozen", about="the hybrid, not SwinV2 with an LSTM, in two stages"),
            Contrast(a="e14_hybrid", b="swincvs_e2e", about="the hybrid, not SwinV2 with an LSTM, end to end"),
            Contrast(a="multires_fusion", b="e12_regularized", about="both side by side, not V-JEPA 2 alone"),
        ),
    ),
)

WRONG: tuple[WrongConclusion, ...] = (
    WrongConclusion(
        anchor="weighting",
        title="Wrong conclusion 1: weighting the weak criterion changes nothing",
        asked="Does a positive weight of 5 on one criterion change its AP, or mAP?",
        claimed="Exp6 gave C2 five times the weight and reported 49.79 val mAP: equal to Exp2 in every digit.",
        audit="The weight was never used: equal predictions under another treatment. And column C2 is the hepatocystic "
        "triangle, not the cystic plate that the study meant.",
        contrasts=(
            Contrast(
                a="e06_c2_weighted",
                b="e02_frozen_probe",
                about="weight 5 on C2, the hepatocystic triangle",
                criteria=(HEPATOCYSTIC_TRIANGLE,),
            ),
            Contrast(
                a="e06_cystic_plate",
                b="e02_frozen_probe",
                about="weight 5 on C3, the cystic plate",
                criteria=(CYSTIC_PLATE,),
            ),
        ),
    ),
    WrongConclusion(
        anchor="keys",
        title="Wrong conclusion 2: what adapters on q, k and v bring",
        asked="Are adapters on the keys worth anything beside those on queries and values?",
        claimed="Exp10b reported 54.61 val mAP, its best until then, for adapters of rank 32 on q, k and v.",
        audit="The name `k_proj` matched no layer: keys were never adapted, and part of the adapters sat in the unused "
        "predictor. What ran was rank 32 on q and v.",
        contrasts=(
            Contrast(a="e10b_lora_r32_qkv", b="e10b_documented", about="q, k, v, not q, v, at rank 32"),
            Contrast(a="lora_k", b="lora_v", about="k alone, not v alone, at equal parameters"),
        ),
        attention=("e10b_lora_r32_qkv", "e10b_documented"),
    ),
    WrongConclusion(
        anchor="supervision",
        title="Wrong conclusion 3: attention cannot be supervised",
        asked="Does a loss on the encoder's attention move it to the anatomy, and does that change mAP?",
        claimed="Exp11 reported 49.77 and entropy 99.5 to 99.2 % (lambda 0.1), 99.3 to 99.4 % (1.0): a "
        "negative result.",
        audit="The loss read detached queries and keys: it had no gradient. The entropy was that of the map averaged "
        "over heads, queries and clips, before rotary embedding, without the adapter: it could not have moved.",
        contrasts=(
            Contrast(a="e11_attention_supervision", b="e10b_ten_epochs", about="supervision, lambda 0.1"),
            Contrast(a="e11_attention_supervision_l1", b="e10b_ten_epochs", about="supervision, lambda 1"),
            Contrast(a="e11_attention_supervision_l1", b="e11_attention_supervision", about="lambda 1, not 0.1"),
        ),
        attention=("e10b_ten_epochs", "e11_attention_supervision", "e11_attention_supervision_l1"),
    ),
)
