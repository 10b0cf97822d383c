"""The networks behind the text encoder: sentence transformers, and the text side of joint models.

Belongs here: loading, token ids to vectors. Does not: texts to token ids, windows, batches (`aura.embeddings.text`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aura.embeddings.encoder import Device, Vectors, resolve_device
from aura.embeddings.errors import EncodingError
from aura.embeddings.network import LOADING_ERRORS, PretrainedNetwork, Undo, in_brief, load_network, to_bfloat16
from aura.embeddings.packed import PackedBert, is_packable
from aura.embeddings.weights import ModelFiles

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.modeling_outputs import BaseModelOutputWithPooling

TokenIds = Sequence[int]

_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "whitespacetokenizer_config.json")

JOINT_TEXT_TOKENS = 512
"""Longest text of a joint model that does not say its own limit."""


class TextTower(ABC):
    """A network that gives token ids a vector."""

    def __init__(self, files: ModelFiles) -> None:
        self.files = files

    @property
    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """From texts to token ids."""

    @property
    @abstractmethod
    def limit(self) -> int | None:
        """Longest text in tokens."""

    @property
    def prompt(self) -> str:
        """What the model wants to have before every text."""
        return ""

    @abstractmethod
    def forward(self, texts: Sequence[TokenIds]) -> Vectors:
        """Vectors [n, d], of any length, of texts with their special tokens."""

    @abstractmethod
    def to_bfloat16(self) -> Undo:
        """Go over to bfloat16."""

    def rearrange(self) -> Undo | None:
        """Go over to a faster form of the same; None where there is none."""
        return None


class SentenceTower(TextTower):
    """A sentence transformer, packed where its backbone is one that can be."""

    def __init__(self, files: ModelFiles, device: Device = "auto", max_tokens: int | None = None) -> None:
        super().__init__(files)
        self._device = device
        self._max_tokens = max_tokens
        self._packed: PackedBert | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The sentence transformer's own."""
        from transformers import PreTrainedTokenizerBase

        tokenizer = self.network.tokenizer
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise EncodingError(
                f"model {self.files.name!r} has no transformers tokenizer, but {type(tokenizer).__name__}"
            )
        return tokenizer

    @property
    def limit(self) -> int | None:
        """The model's own limit, or the configured one where that is smaller."""
        limits = [limit for limit in (self.network.max_seq_length, self._max_tokens) if limit is not None]
        return min(limits, default=None)

    @property
    def prompt(self) -> str:
        """The model's default prompt."""
        return self.network.prompts.get(self.network.default_prompt_name or "") or ""

    @cached_property
    def network(self) -> SentenceTransformer:
        """The sentence transformer, in float32 as loaded."""
        import torch
        from sentence_transformers import SentenceTransformer

        directory = self.files.directory
        backbone = directory / backbone_folder(directory)
        if (backbone / "config.json").is_file():
            # A sentence transformer does not tell which weights were missing.
            load_network(backbone, self.files.name)
        check_tokenizer(self.files)
        try:
            network = SentenceTransformer(
                str(directory),
                device=resolve_device(self._device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
        except LOADING_ERRORS as error:
            raise EncodingError(
                f"model {self.files.name!r} in {directory} cannot be loaded: {in_brief(error)}"
            ) from error
        return network.eval()

    def to_bfloat16(self) -> Undo:
        """Pack the backbone in bfloat16, or convert the whole network if it cannot be packed."""
        import torch

        return self._pack(torch.bfloat16) or to_bfloat16(self.network)

    def rearrange(self) -> Undo | None:
        """Pack the backbone."""
        import torch

        return self._pack(torch.float32)

    def _pack(self, dtype: torch.dtype) -> Undo | None:
        backbone = _packable_backbone(self.network)
        if backbone is None:
            return None
        self._packed = PackedBert(backbone, dtype)
        return self._unpack

    def _unpack(self) -> None:
        self._packed = None

    def forward(self, texts: Sequence[TokenIds]) -> Vectors:
        """Vectors out of the packed backbone, else out of the sentence transformer."""
        return self._of_sentence_transformer(texts) if self._packed is None else self._of_packed(self._packed, texts)

    def _of_packed(self, packed: PackedBert, texts: Sequence[TokenIds]) -> Vectors:
        """The other modules (pooling, dense, normalisation) see each group of texts of equal length, in float32."""
        import torch

        hidden, groups = packed.hidden_states(texts)
        vectors = []
        for group in groups:
            states = hidden[group.rows].view(group.count, group.length, -1).float()
            mask = torch.ones(states.shape[:2], dtype=torch.int64, device=states.device)
            features: dict[str, Any] = {"token_embeddings": states, "attention_mask": mask}
            for module in list(self.network)[1:]:
                features = module(features)
            vectors.append(features["sentence_embedding"])
        return _on_host(torch.cat(vectors))

    def _of_sentence_transformer(self, texts: Sequence[TokenIds]) -> Vectors:
        features = padded(self.tokenizer, texts, self.network.device)
        if self._prompt_length:
            # A model may leave its prompt out of the mean.
            features["prompt_length"] = self._prompt_length
        return _on_host(self.network(features)["sentence_embedding"])

    @cached_property
    def _prompt_length(self) -> int:
        """Tokens of the prompt and of what stands before it."""
        if not self.prompt:
            return 0
        ids: list[int] = self.tokenizer(self.prompt, return_attention_mask=False, verbose=False)["input_ids"]
        return len(ids) - (ids[-1] in (self.tokenizer.sep_token_id, self.tokenizer.eos_token_id))


class JointTextTower(TextTower):
    """The text side of CLIP, SigLIP or CLAP: projected into the space that it shares with the other modality."""

    def __init__(self, shared: PretrainedNetwork) -> None:
        super().__init__(shared.files)
        self._shared = shared

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The one that was saved with the model."""
        from transformers import AutoTokenizer

        directory = self.files.directory
        check_tokenizer(self.files)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
        except LOADING_ERRORS as error:
            raise EncodingError(
                f"model {self.files.name!r} has no tokenizer that can be loaded from {directory}: {in_brief(error)}; "
                f"save the model's processor there"
            ) from error
        return cast("PreTrainedTokenizerBase", tokenizer)

    @cached_property
    def limit(self) -> int | None:
        """The number of positions that the text side has, less those that padding takes."""
        config = self._shared.network.config.text_config
        limit = int(getattr(config, "max_position_embeddings", JOINT_TEXT_TOKENS))
        # RoBERTa, the text side of CLAP, begins to count behind its padding's number.
        return limit - int(config.pad_token_id) - 1 if "clap" in str(config.model_type) else limit

    def forward(self, texts: Sequence[TokenIds]) -> Vectors:
        """Projected features."""
        network = self._shared.network
        if "siglip" in str(network.config.model_type):
            # SigLIP has seen its texts padded to the limit and without a mask; it reads the last position.
            inputs = padded(self.tokenizer, texts, network.device, self.limit)
            inputs.pop("attention_mask", None)
        else:
            inputs = padded(self.tokenizer, texts, network.device)
        features: Callable[..., BaseModelOutputWithPooling] = cast("Any", network).get_text_features
        return _on_host(cast("torch.Tensor", features(**inputs).pooler_output))

    def to_bfloat16(self) -> Undo:
        """Convert the text side; the other sides stay as they are."""
        return to_bfloat16(self._shared.tower("text_"))


def check_tokenizer(files: ModelFiles) -> None:
    """Refuse a model without a vocabulary, in whose place the loading library would invent an empty one.

    Raises:
        EncodingError: no file of a tokenizer is there.
    """
    if not any(path.is_file() for name in _VOCABULARIES for path in files.directory.rglob(name)):
        raise EncodingError(
            f"model {files.name!r} has no tokenizer in {files.directory} (none of {', '.join(_VOCABULARIES)}); save "
            f"the model's tokenizer or processor there, or name a text model"
        )


def padded(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[TokenIds], device: torch.device, length: int | None = None
) -> dict[str, Any]:
    """Texts in a rectangle on a device, with the mask of what is text.

    Args:
        tokenizer: Knows the padding and its side.
        texts: Token ids.
        device: Where to.
        length: Tokens to pad to; None for the longest text.
    """
    batch = tokenizer.pad(
        {"input_ids": [list(text) for text in texts]},
        padding="longest" if length is None else "max_length",
        max_length=length,
        return_attention_mask=True,
        return_tensors="pt",
        verbose=False,
    )
    return {"input_ids": batch["input_ids"].to(device), "attention_mask": batch["attention_mask"].to(device)}


def backbone_folder(directory: Path) -> str:
    """The folder of the transformer inside a sentence transformer's directory."""
    modules = directory / "modules.json"
    return str(json.loads(modules.read_text())[0]["path"]) if modules.is_file() else ""


def _packable_backbone(network: SentenceTransformer) -> PreTrainedModel | None:
    """The BERT inside a sentence transformer whose other modules need nothing but hidden states; else None."""
    from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, Transformer

    first, *others = list(network)
    if not isinstance(first, Transformer) or not all(
        isinstance(o, (Dense, LayerNorm, Normalize, Pooling)) for o in others
    ):
        return None
    if any(isinstance(module, Pooling) and not module.include_prompt for module in others):
        return None
    return first.auto_model if is_packable(first.auto_model) else None


def _on_host(vectors: torch.Tensor) -> Vectors:
    rows: Vectors = vectors.float().cpu().numpy()
    return rows
