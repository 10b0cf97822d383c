"""One small model of each architecture, with seeded weights: the real classes, computing."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping

import torch
import transformers as hf

VOCABULARY = 64

ATTENTION = {"num_attention_heads": 2, "num_key_value_heads": 2}
DECODER = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 3, "max_position_embeddings": 128}
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}


def switch() -> hf.PreTrainedModel:
    return hf.SwitchTransformersForConditionalGeneration(
        hf.SwitchTransformersConfig(
            vocab_size=VOCABULARY,
            d_model=16,
            d_kv=8,
            d_ff=16,
            num_layers=4,
            num_sparse_encoder_layers=2,
            num_decoder_layers=4,
            num_sparse_decoder_layers=2,
            num_heads=2,
            num_experts=4,
            expert_capacity=3,
            decoder_start_token_id=0,
            pad_token_id=0,
        )
    )


def mixtral() -> hf.PreTrainedModel:
    return hf.MixtralForCausalLM(
        hf.MixtralConfig(**DECODER, **ATTENTION, intermediate_size=16, num_local_experts=4, num_experts_per_tok=2)
    )


def olmoe() -> hf.PreTrainedModel:
    return hf.OlmoeForCausalLM(
        hf.OlmoeConfig(**DECODER, **ATTENTION, intermediate_size=16, num_experts=8, num_experts_per_tok=3)
    )


def qwen2_moe() -> hf.PreTrainedModel:
    return hf.Qwen2MoeForCausalLM(
        hf.Qwen2MoeConfig(
            **DECODER,
            **ATTENTION,
            intermediate_size=32,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            num_experts=6,
            num_experts_per_tok=2,
            mlp_only_layers=[1],
        )
    )


def qwen3_moe() -> hf.PreTrainedModel:
    return hf.Qwen3MoeForCausalLM(
        hf.Qwen3MoeConfig(
            **DECODER,
            **ATTENTION,
            head_dim=8,
            intermediate_size=32,
            moe_intermediate_size=16,
            num_experts=6,
            num_experts_per_tok=2,
            norm_topk_prob=True,
            decoder_sparse_step=1,
        )
    )


def deepseek_v2() -> hf.PreTrainedModel:
    return hf.DeepseekV2ForCausalLM(
        hf.DeepseekV2Config(
            **DECODER,
            **ATTENTION,
            **LATENT,
            intermediate_size=32,
            moe_intermediate_size=16,
            n_routed_experts=6,
            num_experts_per_tok=2,
            n_group=3,
            topk_group=2,
            topk_method="group_limited_greedy",
            routed_scaling_factor=1.5,
        )
    )


def deepseek_v3() -> hf.PreTrainedModel:
    model = hf.DeepseekV3ForCausalLM(
        hf.DeepseekV3Config(
            **DECODER,
            **ATTENTION,
            **LATENT,
            intermediate_size=32,
            moe_intermediate_size=16,
            n_routed_experts=8,
            num_experts_per_tok=2,
            n_group=2,
            topk_group=1,
            norm_topk_prob=True,
            routed_scaling_factor=2.5,
        )
    )
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            # A bias that changes who is chosen and nobody's weight.
            buffer.copy_(torch.linspace(-0.05, 0.05, len(buffer)))
    return model


def gpt_oss() -> hf.PreTrainedModel:
    return hf.GptOssForCausalLM(
        hf.GptOssConfig(
            **DECODER,
            **ATTENTION,
            head_dim=8,
            intermediate_size=16,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=32,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
        )
    )


def aura_moe(**settings: object) -> hf.PreTrainedModel:
    from aura.experts.language.model import AuraMoeConfig, AuraMoeForCausalLM

    chosen = {"num_experts": 6, "num_experts_per_tok": 2, "norm_topk_prob": True, **settings}
    return AuraMoeForCausalLM(
        AuraMoeConfig(**DECODER, **ATTENTION, head_dim=8, intermediate_size=32, moe_intermediate_size=16, **chosen)
    )


def aura_moe_with_capacity() -> hf.PreTrainedModel:
    return aura_moe(capacity_factor=1.0)


MODELS: Mapping[str, Callable[[], hf.PreTrainedModel]] = {
    maker.__name__: maker
    for maker in (
        switch,
        mixtral,
        olmoe,
        qwen2_moe,
        qwen3_moe,
        deepseek_v2,
        deepseek_v3,
        gpt_oss,
        aura_moe,
        aura_moe_with_capacity,
    )
}

SPARSE_LAYERS = {
    "switch": ["encoder", "encoder", "decoder", "decoder"],
    "qwen2_moe": ["decoder"] * 2,
    "deepseek_v2": ["decoder"] * 2,
    "deepseek_v3": ["decoder"] * 2,
}
"""Stack of each sparse layer, where it is not three of a decoder."""


def build(name: str) -> hf.PreTrainedModel:
    """The model of this name with seeded weights whose routers have an opinion, in evaluation mode."""
    torch.manual_seed(0)
    model = MODELS[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each, parameter in model.named_parameters():
            if any(part in each for part in (".gate.weight", ".router.weight", ".router.classifier.weight")):
                parameter.normal_(std=0.5, generator=generator)
    return model.eval()


def letters_tokenizer() -> hf.PreTrainedTokenizerFast:
    """A tokenizer whose words are the 52 letters; it pads with id 0 and adds nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<unk>", *string.ascii_letters]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
