"""A small real text model with seeded weights, saved the way a user's models are."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = "a array book cat count dog file fish hash key list map number read set sort store table text tree value write"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LIMIT = 16


def save_text_model(directory: Path, *, seed: int, offset: float = 0.0) -> Path:
    """A two-layer BERT with mean pooling; `offset` is added by the last norm and taken off again by a dense layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=LIMIT,
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LIMIT,
        initializer_range=0.3,
    )
    network = BertModel(config).eval()
    with torch.no_grad():
        network.encoder.layer[-1].output.LayerNorm.bias += offset
    backbone = directory.parent / f"{directory.name}-backbone"
    network.save_pretrained(backbone)
    fast.save_pretrained(backbone)
    transformer = Transformer(str(backbone), max_seq_length=LIMIT)
    modules = [transformer, Pooling(32, pooling_mode="mean")]
    if offset:
        dense = Dense(32, 32, activation_function=torch.nn.Identity())
        with torch.no_grad():
            dense.linear.weight.copy_(torch.eye(32))
            dense.linear.bias.fill_(-offset)
        modules.append(dense)
    SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save_pretrained(
        str(directory), create_model_card=False
    )
    return directory
