"""Small real models with seeded weights, saved the way a user's models are."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = "a array book cat count dog file fish hash key list map number read set sort store table text tree value write"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LIMIT = 16
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_text_model(
    directory: Path, *, seed: int, offset: float = 0.0, architecture: str = "bert", pooling: str = "mean"
) -> Path:
    """A two-layer text model; `offset` is added by the last norm and taken off again by a dense layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    fast = word_tokenizer()
    torch.manual_seed(seed)
    network = backbone_of(architecture, len(fast)).eval()
    if offset:
        with torch.no_grad():
            network.encoder.layer[-1].output.LayerNorm.bias += offset
    backbone = directory.parent / f"{directory.name}-backbone"
    network.save_pretrained(backbone)
    fast.save_pretrained(backbone)
    transformer = Transformer(str(backbone), max_seq_length=LIMIT)
    modules = [transformer, Pooling(32, pooling_mode=pooling)]
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


def backbone_of(architecture: str, words: int) -> torch.nn.Module:
    """A network with seeded weights: the caller seeds."""
    from transformers import (
        BertConfig,
        BertModel,
        DistilBertConfig,
        DistilBertModel,
        MPNetConfig,
        MPNetModel,
        RobertaConfig,
        RobertaModel,
        XLMRobertaConfig,
        XLMRobertaModel,
    )

    options = {"vocab_size": words, "max_position_embeddings": LIMIT, "initializer_range": 0.3, "pad_token_id": 0}
    if architecture == "distilbert":
        return DistilBertModel(DistilBertConfig(**options, dim=32, hidden_dim=64, n_layers=2, n_heads=2))
    if architecture == "bert":
        return BertModel(BertConfig(**options, **SIZE))
    # These count positions from the padding's id on.
    options["max_position_embeddings"] = LIMIT + 2
    configs = {"roberta": RobertaConfig, "xlm-roberta": XLMRobertaConfig, "mpnet": MPNetConfig}
    networks = {"roberta": RobertaModel, "xlm-roberta": XLMRobertaModel, "mpnet": MPNetModel}
    return networks[architecture](configs[architecture](**options, **SIZE))


def word_tokenizer(*, before: str | None = "[CLS]", after: str = "[SEP]", limit: int = LIMIT):
    """One token a word; the last id is that of `after`, where there is no `before`, as CLIP's text side wants it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *WORDS.split()] if before else [*SPECIAL[:2], *WORDS.split(), after]
    vocabulary = {token: index for index, token in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    frame = f"{before} $A {after}" if before else f"$A {after}"
    tokens = [(token, vocabulary[token]) for token in (before, after) if token]
    tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=tokens)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token=before,
        sep_token=after if before else None,
        eos_token=after,
        model_max_length=limit,
    )


def save_joint_clip(directory: Path) -> Path:
    """A CLIP with both sides, its tokenizer and its image processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    tokenizer = word_tokenizer(before=None)
    torch.manual_seed(3)
    text = CLIPTextConfig(
        **SIZE,
        vocab_size=len(tokenizer),
        max_position_embeddings=LIMIT,
        eos_token_id=tokenizer.eos_token_id,
        initializer_factor=20.0,
    )
    vision = CLIPVisionConfig(**SIZE, image_size=32, patch_size=8, initializer_factor=20.0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(directory)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def save_siglip(directory: Path, version: int = 1) -> Path:
    """A SigLIP, or a SigLIP 2 for images of their own shapes, with both sides."""
    from transformers import (
        Siglip2Config,
        Siglip2ImageProcessor,
        Siglip2Model,
        Siglip2TextConfig,
        Siglip2VisionConfig,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipTextConfig,
        SiglipVisionConfig,
    )

    tokenizer = word_tokenizer(before=None, after="</s>")
    torch.manual_seed(5)
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": LIMIT, "projection_size": 32}
    if version == 1:
        text, vision = SiglipTextConfig(**SIZE, **words), SiglipVisionConfig(**SIZE, image_size=32, patch_size=8)
        network = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    else:
        text, vision = Siglip2TextConfig(**SIZE, **words), Siglip2VisionConfig(**SIZE, num_patches=16, patch_size=8)
        network = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
        processor = Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    network.save_pretrained(directory)
    processor.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def save_whisper(directory: Path, *, seconds: int = 2) -> Path:
    """A Whisper that hears `seconds` at a time."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    torch.manual_seed(6)
    config = WhisperConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_mel_bins=40,
        max_source_positions=50 * seconds,
        max_target_positions=8,
        vocab_size=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        init_std=0.2,
    )
    WhisperModel(config).save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=40, chunk_length=seconds).save_pretrained(directory)
    return directory


def save_clap(directory: Path, *, fusion: bool = False) -> Path:
    """A CLAP that hears one second at a time."""
    from transformers import ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapModel, ClapTextConfig

    tokenizer = word_tokenizer()
    torch.manual_seed(7)
    audio = ClapAudioConfig(
        window_size=4,
        num_mel_bins=64,
        spec_size=64,
        patch_size=4,
        patch_stride=[4, 4],
        hidden_size=64,
        patch_embeds_hidden_size=32,
        depths=[1, 1],
        num_attention_heads=[2, 4],
        enable_fusion=fusion,
        fusion_type="aff_2d" if fusion else None,
    )
    text = ClapTextConfig(**SIZE, vocab_size=len(tokenizer), max_position_embeddings=LIMIT + 1, pad_token_id=0)
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16)).save_pretrained(directory)
    extractor = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=16_000,
        hop_length=480,
        max_length_s=1,
        frequency_max=8_000,
        truncation="fusion" if fusion else "rand_trunc",
    )
    extractor.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def save_wav2vec2(directory: Path) -> Path:
    """A wav2vec 2.0 of two convolutions."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(8)
    config = Wav2Vec2Config(
        **SIZE,
        vocab_size=10,
        conv_dim=[16, 16],
        conv_stride=[10, 8],
        conv_kernel=[20, 16],
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2Model(config).save_pretrained(directory)
    Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(directory)
    return directory
