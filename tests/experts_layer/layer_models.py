"""Small models of type `aura_moe` and batches for them."""

import torch

from aura.experts.language.model import AuraMoeConfig, AuraMoeForCausalLM


def small_model(seed=0, **settings):
    sizes = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 32,
        "moe_intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_experts": 4,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(seed)
    return AuraMoeForCausalLM(AuraMoeConfig(**{**sizes, **settings}))


def tokens(batch=3, length=12, seed=0):
    return torch.randint(0, 64, (batch, length), generator=torch.Generator().manual_seed(seed))
