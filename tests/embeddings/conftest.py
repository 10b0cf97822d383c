"""Small real models, one of each kind for all tests of a session."""

from __future__ import annotations

import pytest
import torch
from embeddings_tiny_models import save_text_model


@pytest.fixture(scope="session")
def tiny_text_model(tmp_path_factory):
    return save_text_model(tmp_path_factory.mktemp("models") / "tiny-bert", seed=1)


@pytest.fixture(scope="session")
def other_text_model(tmp_path_factory):
    return save_text_model(tmp_path_factory.mktemp("models") / "other-bert", seed=2)


@pytest.fixture(scope="session")
def fragile_text_model(tmp_path_factory):
    """A model whose vectors are lost in bfloat16, which has 8 bits of mantissa, under an offset of 1000."""
    return save_text_model(tmp_path_factory.mktemp("models") / "fragile-bert", seed=1, offset=1000.0)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    torch.manual_seed(3)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(**size, vocab_size=20, max_position_embeddings=8, bos_token_id=0, eos_token_id=19)
    vision = CLIPVisionConfig(**size, image_size=32, patch_size=8)
    directory = tmp_path_factory.mktemp("models") / "tiny-clip"
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(directory)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(4)
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    directory = tmp_path_factory.mktemp("models") / "tiny-vit"
    ViTModel(config, add_pooling_layer=False).save_pretrained(directory)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(directory)
    return directory
