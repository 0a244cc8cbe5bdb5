"""Transformers of Hugging Face's library at tiny sizes: encoders, decoders, both, and their kin."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from modelzoo.model import Built, Example, Family, Model, Outputs

VOCABULARY = 256
LENGTH = 16
TOKENS = ("input_ids", "attention_mask")
SEQUENCES = (*TOKENS, "decoder_input_ids")

WIDTHS = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
GPT = {
    "vocab_size": VOCABULARY,
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.1,
}
GROUPED = {**WIDTHS, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 8}
PICTURE = {**WIDTHS, "image_size": 32, "patch_size": 8}
SEQ2SEQ = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 64,
    "init_std": 0.1,
}
SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def token_ids(seed: int = 0) -> torch.Tensor:
    seeded = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (2, LENGTH), generator=seeded)


def examples(inputs: tuple[str, ...], config: Any) -> Example:
    seeded = torch.Generator().manual_seed(0)
    size = getattr(config, "image_size", None) or 32
    made = {
        "input_ids": token_ids(),
        "attention_mask": torch.ones(2, LENGTH, dtype=torch.long),
        "decoder_input_ids": token_ids(1),
        "pixel_values": torch.randn(2, 3, size, size, generator=seeded),
        "input_features": torch.randn(2, 80, 32, generator=seeded),
        "input_values": torch.randn(2, 800, generator=seeded),
    }
    return tuple(made[name] for name in inputs)


def build(
    kind: str,
    task: str,
    options: Mapping[str, Any],
    inputs: tuple[str, ...] = TOKENS,
    outputs: tuple[str, ...] = ("logits",),
) -> Built:
    """The model of class `{kind}{task}` with the configuration `{kind}Config`."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**options)
    config.use_cache = False
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}{task}")(config)
    return Outputs(model, inputs, outputs), examples(inputs, config)


def clip() -> Built:
    options = {
        "text_config": {**WIDTHS, "eos_token_id": 2, "bos_token_id": 1},
        "vision_config": PICTURE,
        "projection_dim": 64,
    }
    inputs = ("input_ids", "pixel_values", "attention_mask")
    return build("CLIP", "Model", options, inputs, ("logits_per_image",))


def _entry(
    name: str,
    kind: str,
    task: str,
    options: Mapping[str, Any],
    inputs: tuple[str, ...] = TOKENS,
    outputs: tuple[str, ...] = ("logits",),
    fast: bool = False,
) -> Model:
    make = partial(build, kind, task, options, inputs, outputs)
    return Model(name, Family.TRANSFORMERS, make, inputs, fast)


CLASSIFIES = "ForSequenceClassification"
GENERATES = "ForCausalLM"

MODELS: tuple[Model, ...] = (
    _entry("bert_tiny", "Bert", CLASSIFIES, {**WIDTHS, "num_labels": 4}, fast=True),
    _entry("llama_tiny", "Llama", GENERATES, {**GROUPED, "intermediate_size": 160}, fast=True),
    _entry("gpt2_tiny", "GPT2", "LMHeadModel", GPT),
    _entry(
        "distilbert_tiny",
        "DistilBert",
        CLASSIFIES,
        {
            "vocab_size": VOCABULARY,
            "dim": 64,
            "n_layers": 3,
            "n_heads": 4,
            "hidden_dim": 128,
            "max_position_embeddings": 64,
            "initializer_range": 0.1,
        },
    ),
    _entry("roberta_tiny", "Roberta", CLASSIFIES, {**WIDTHS, **SPECIAL_TOKENS}),
    _entry("electra_tiny", "Electra", CLASSIFIES, {**WIDTHS, "embedding_size": 32}),
    _entry("albert_tiny", "Albert", CLASSIFIES, {**WIDTHS, "embedding_size": 32}),
    _entry(
        "t5_tiny",
        "T5",
        "ForConditionalGeneration",
        {
            "vocab_size": VOCABULARY,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        },
        SEQUENCES,
    ),
    _entry(
        "bart_tiny",
        "Bart",
        "ForConditionalGeneration",
        {**SEQ2SEQ, **SPECIAL_TOKENS, "decoder_start_token_id": 2},
        SEQUENCES,
    ),
    _entry(
        "opt_tiny",
        "OPT",
        GENERATES,
        {
            **WIDTHS,
            **SPECIAL_TOKENS,
            "ffn_dim": 128,
            "word_embed_proj_dim": 64,
            "init_std": 0.1,
        },
    ),
    _entry(
        "bloom_tiny",
        "Bloom",
        GENERATES,
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "n_layer": 3,
            "n_head": 4,
            "initializer_range": 0.1,
        },
    ),
    _entry("gpt_neox_tiny", "GPTNeoX", GENERATES, WIDTHS),
    _entry(
        "gpt_neo_tiny",
        "GPTNeo",
        GENERATES,
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
            "window_size": 8,
            "initializer_range": 0.1,
        },
    ),
    _entry("gptj_tiny", "GPTJ", GENERATES, {**GPT, "rotary_dim": 8}),
    _entry("mistral_tiny", "Mistral", GENERATES, GROUPED),
    _entry("qwen2_tiny", "Qwen2", GENERATES, GROUPED),
    _entry("qwen3_tiny", "Qwen3", GENERATES, GROUPED),
    _entry("gemma_tiny", "Gemma", GENERATES, GROUPED),
    _entry("gemma2_tiny", "Gemma2", GENERATES, {**GROUPED, "num_hidden_layers": 2}),
    _entry("phi_tiny", "Phi", GENERATES, WIDTHS),
    _entry("phi3_tiny", "Phi3", GENERATES, {**GROUPED, **SPECIAL_TOKENS}),
    _entry("falcon_tiny", "Falcon", GENERATES, {**WIDTHS, "new_decoder_architecture": False}),
    _entry(
        "mpt_tiny",
        "Mpt",
        GENERATES,
        {"vocab_size": VOCABULARY, "d_model": 64, "n_heads": 4, "n_layers": 3, "max_seq_len": 64},
    ),
    _entry(
        "deberta_v2_tiny",
        "DebertaV2",
        CLASSIFIES,
        {**WIDTHS, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    _entry("mpnet_tiny", "MPNet", CLASSIFIES, {**WIDTHS, **SPECIAL_TOKENS}),
    _entry("convbert_tiny", "ConvBert", CLASSIFIES, {**WIDTHS, "embedding_size": 64}),
    _entry("squeezebert_tiny", "SqueezeBert", CLASSIFIES, {**WIDTHS, "embedding_size": 64}),
    _entry("mobilebert_tiny", "MobileBert", CLASSIFIES, {**WIDTHS, "embedding_size": 32}),
    _entry("fnet_tiny", "FNet", CLASSIFIES, WIDTHS, ("input_ids",)),
    _entry("vit_tiny", "ViT", "ForImageClassification", PICTURE, ("pixel_values",)),
    _entry("deit_tiny", "DeiT", "ForImageClassification", PICTURE, ("pixel_values",)),
    _entry("dinov2_tiny", "Dinov2", "ForImageClassification", PICTURE, ("pixel_values",)),
    _entry(
        "segformer_tiny",
        "Segformer",
        "ForSemanticSegmentation",
        {
            "hidden_sizes": [16, 32, 48, 64],
            "num_attention_heads": [1, 2, 3, 4],
            "decoder_hidden_size": 64,
            "depths": [1, 1, 1, 1],
            "image_size": 64,
            "initializer_range": 0.1,
        },
        ("pixel_values",),
    ),
    Model(
        "clip_tiny",
        Family.TRANSFORMERS,
        clip,
        ("input_ids", "pixel_values", "attention_mask"),
        dynamic=False,
    ),
    _entry(
        "whisper_tiny",
        "Whisper",
        "ForConditionalGeneration",
        {
            **{key: value for key, value in SEQ2SEQ.items() if key != "max_position_embeddings"},
            **SPECIAL_TOKENS,
            "decoder_start_token_id": 1,
            "max_source_positions": 16,
            "max_target_positions": 32,
            "num_mel_bins": 80,
        },
        ("input_features", "decoder_input_ids"),
    ),
    _entry(
        "wav2vec2_tiny",
        "Wav2Vec2",
        "ForCTC",
        {
            **WIDTHS,
            "conv_dim": [32, 32, 32],
            "conv_stride": [5, 2, 2],
            "conv_kernel": [10, 3, 3],
            "num_feat_extract_layers": 3,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
            "vocab_size": 32,
        },
        ("input_values",),
    ),
)
