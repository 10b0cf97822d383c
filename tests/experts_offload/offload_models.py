"""Small seeded models of several architectures, as a user has them: in directories."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers as hf

VOCABULARY = 64
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
EIGHT = {"num_experts": 8, "num_experts_per_tok": 2}
LOCAL = {"num_local_experts": 8, "num_experts_per_tok": 2}


def build(name: str, **changes: object) -> hf.PreTrainedModel:
    """A model with random weights, biases included, in evaluation mode; a Qwen's configuration may be changed."""
    torch.manual_seed(7)
    model = _MODELS[name](**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model.eval()


def save(name: str, directory: Path) -> Path:
    """The same in a directory."""
    build(name).save_pretrained(directory)
    return directory


def save_with_letters(name: str, directory: Path) -> Path:
    """The same with a tokenizer whose words are letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = {chr(97 + n): n + 1 for n in range(26)} | {"[END]": 0, "[?]": 27}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="[?]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[END]", unk_token="[?]")
    fast.save_pretrained(save(name, directory))
    return directory


def _qwen(**changes):
    own = {"head_dim": 16, "intermediate_size": 48, "moe_intermediate_size": 24}
    return hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**{**SIZES, **EIGHT, **own, **changes}))


def _aura():
    from aura.experts.language.model import AuraMoeConfig, AuraMoeForCausalLM

    # Drops assignments, which come with the number of experts as their index.
    own = {"head_dim": 16, "intermediate_size": 48, "moe_intermediate_size": 24, "capacity_factor": 1.0}
    return AuraMoeForCausalLM(AuraMoeConfig(**SIZES, **EIGHT, **own))


def _deepseek():
    low_rank = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "qk_nope_head_dim": 8}
    groups = {
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    }
    sizes = {"intermediate_size": 48, "moe_intermediate_size": 24}
    return hf.DeepseekV3ForCausalLM(hf.DeepseekV3Config(**SIZES, **low_rank, **groups, **sizes))


def _switch():
    layers = {"num_layers": 2, "num_sparse_encoder_layers": 1, "num_decoder_layers": 2, "num_sparse_decoder_layers": 1}
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 16, "d_ff": 24, "num_heads": 2}
    # Fewer places than tokens: some are dropped.
    experts = {"num_experts": 8, "expert_capacity": 3, "decoder_start_token_id": 1}
    return hf.SwitchTransformersForConditionalGeneration(hf.SwitchTransformersConfig(**sizes, **layers, **experts))


_MODELS = {
    "qwen": _qwen,
    "qwen-bf16": lambda: _qwen().to(torch.bfloat16),
    "aura": _aura,
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**SIZES, **LOCAL, head_dim=16, intermediate_size=24)),
    "gpt-oss": lambda: hf.GptOssForCausalLM(hf.GptOssConfig(**SIZES, **LOCAL, head_dim=16, intermediate_size=24)),
    "deepseek": _deepseek,
    "switch": _switch,
}
NAMES = tuple(_MODELS)
