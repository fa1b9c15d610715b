"""The experiments that a study consists of, by name; `python -m calot.studying.listed` prints all of them."""

from __future__ import annotations

#: The study's own table, e02 to e15: what `calot study` trains where nothing else is asked for.
STUDY: tuple[str, ...] = (
    *("e02_frozen_probe", "e03_focal", "e04_balanced", "e05_focal_balanced", "e06_c2_weighted", "e06_cystic_plate"),
    *("e08_multitask", "e09_stage_one", "e09_staged", "e10a_lora_r16", "e10b_lora_r32_qkv", "e10b_documented"),
    *("e10b_recipe", "e10b_ten_epochs", "e10c_lora_low_lr", "e11_attention_supervision"),
    *("e11_attention_supervision_l1", "e12_regularized", "e12_attention_bias", "e12_lora_r64", "e13_window_vit"),
    *("e14_hybrid", "e15_vjepa_window", "e15_window_parallel"),
)

#: What its questions need beside it: adapters on one target, the peer, other frames and windows, other ways to read the
#: backbone.
BESIDE: tuple[str, ...] = (
    *("lora_q", "lora_k", "lora_v", "lora_qk"),
    *("multires_fusion", "swincvs_lstm", "swincvs_e2e", "swincvs_frozen", "frames5_global", "frames5_window"),
    *("frames16_window", "layers_12", "unet_skips", "feature_pyramid", "multi_layer_pooling", "key_moments"),
)

#: By the word that names them in `--experiments`.
LISTS = {"study": STUDY, "all": (*STUDY, *BESIDE)}

if __name__ == "__main__":
    print(*LISTS["all"])
