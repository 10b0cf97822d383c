"""Small models in directories, as a user has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from routing_models import VOCABULARY, build, letters_tokenizer


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[..., Path]:
    """Directory of a model of this name, with a tokenizer whose words are letters; "dense" has no experts."""
    directories: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in directories:
            directory = tmp_path_factory.mktemp(name) / "model"
            if name == "dense":
                import transformers as hf

                torch.manual_seed(0)
                sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8}
                heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 16}
                model = hf.Qwen3ForCausalLM(hf.Qwen3Config(**sizes, **heads))
            else:
                model = build(name)
            model.save_pretrained(directory)
            letters_tokenizer().save_pretrained(directory)
            directories[name] = directory
        return directories[name]

    return save
