"""One small model of each architecture, with seeded weights: the real classes, computing."""

from __future__ import annotations

import string
from collections.abc import Mapping

import torch
import transformers as hf

VOCABULARY = 64

DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
BOTH_WIDTHS = {"intermediate_size": 32, "moe_intermediate_size": 16}
"""Hidden units of a dense block and of an expert."""
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
AURA_MOE = {**DECODER, **BOTH_WIDTHS, "head_dim": 8, "num_experts": 6, "num_experts_per_tok": 2, "norm_topk_prob": True}

MODELS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "switch": (
        "switch_transformers",
        {
            "vocab_size": VOCABULARY,
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 16,
            "num_layers": 4,
            "num_sparse_encoder_layers": 2,
            "num_decoder_layers": 4,
            "num_sparse_decoder_layers": 2,
            "num_heads": 2,
            "num_experts": 4,
            "expert_capacity": 3,
            "decoder_start_token_id": 0,
            "pad_token_id": 0,
        },
    ),
    "mixtral": ("mixtral", {**DECODER, "intermediate_size": 16, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmoe": ("olmoe", {**DECODER, "intermediate_size": 16, "num_experts": 8, "num_experts_per_tok": 3}),
    "qwen2_moe": (
        "qwen2_moe",
        {
            **DECODER,
            **BOTH_WIDTHS,
            "shared_expert_intermediate_size": 16,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3_moe": (
        "qwen3_moe",
        {
            **DECODER,
            **BOTH_WIDTHS,
            "head_dim": 8,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
        },
    ),
    "deepseek_v2": (
        "deepseek_v2",
        {
            **DECODER,
            **BOTH_WIDTHS,
            **LATENT,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "n_group": 3,
            "topk_group": 2,
            "topk_method": "group_limited_greedy",
            "routed_scaling_factor": 1.5,
        },
    ),
    "deepseek_v3": (
        "deepseek_v3",
        {
            **DECODER,
            **BOTH_WIDTHS,
            **LATENT,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "norm_topk_prob": True,
            "routed_scaling_factor": 2.5,
        },
    ),
    "gpt_oss": (
        "gpt_oss",
        {
            **DECODER,
            "head_dim": 8,
            "intermediate_size": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 32,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ),
    "aura_moe": ("aura_moe", AURA_MOE),
    "aura_moe_with_capacity": ("aura_moe", {**AURA_MOE, "capacity_factor": 1.0}),
}
"""Model type and configuration of each."""

SPARSE_LAYERS = {
    "switch": ["encoder", "encoder", "decoder", "decoder"],
    "qwen2_moe": ["decoder"] * 2,
    "deepseek_v2": ["decoder"] * 2,
    "deepseek_v3": ["decoder"] * 2,
}
"""Stack of each sparse layer, where it is not three of a decoder."""


def build(name: str) -> hf.PreTrainedModel:
    """The model of this name with seeded weights whose routers have an opinion, in evaluation mode."""
    import aura.experts.language.model  # noqa: F401 - makes the type aura_moe known

    model_type, sizes = MODELS[name]
    config = hf.AutoConfig.for_model(model_type, **sizes)
    torch.manual_seed(0)
    model = (hf.AutoModelForSeq2SeqLM if config.is_encoder_decoder else hf.AutoModelForCausalLM).from_config(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each, parameter in model.named_parameters():
            if any(part in each for part in (".gate.weight", ".router.weight", ".router.classifier.weight")):
                parameter.normal_(std=0.5, generator=generator)
        for each, buffer in model.named_buffers():
            if each.endswith("e_score_correction_bias"):
                # A bias that changes who is chosen and nobody's weight.
                buffer.copy_(torch.linspace(-0.05, 0.05, len(buffer)))
    return model.eval()


def letters_tokenizer() -> hf.PreTrainedTokenizerFast:
    """A tokenizer whose words are the 52 letters; it pads with id 0 and adds nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<unk>", *string.ascii_letters]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
