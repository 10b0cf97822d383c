"""Small real models with seeded weights, saved the way a user's models are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def save_word_model(directory: Path, texts: Sequence[str], *, spread: float = 1.0) -> Path:
    """A real sentence transformer with seeded weights that knows the words of these texts: one small BERT layer.

    With a small `spread` all words mean nearly the same, and so do all texts.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({word.lower() for text in texts for word in text.split() if word.isalpha() and len(word) > 3})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *words])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, model_max_length=128)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + len(words),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    network = BertModel(config).eval()
    with torch.no_grad():
        # What the mean tells apart is the words: neither where they stand nor what they have in common.
        network.embeddings.word_embeddings.weight.normal_(std=spread).add_(torch.randn(64) * (1 - spread))
        network.embeddings.word_embeddings.weight[: len(special)] = 0.0
        network.embeddings.position_embeddings.weight.zero_()
        network.embeddings.token_type_embeddings.weight.zero_()
    backbone = directory.parent / f"{directory.name}-backbone"
    network.save_pretrained(backbone)
    fast.save_pretrained(backbone)
    modules = [Transformer(str(backbone), max_seq_length=128), Pooling(64, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(directory), create_model_card=False)
    return directory


def save_vision_model(directory: Path) -> Path:
    """A two-layer ViT without pooling, whose seeded weights keep different images apart."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(4)
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        initializer_range=0.3,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(directory)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(directory)
    return directory


def save_mixture(directory: Path, texts: Sequence[str], *, seed: int = 0) -> Path:
    """A Mixtral of two layers with four experts each, with seeded weights, that knows the words of these texts."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *sorted({word.lower() for text in texts for word in text.split() if word.isalpha()})]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(seed)
    config = MixtralConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        initializer_range=0.3,
        max_position_embeddings=256,
    )
    MixtralForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory
