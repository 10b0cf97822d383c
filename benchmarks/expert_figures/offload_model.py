"""The model of the offloading figures: the routing of a trained one, and experts so large that loads matter.

An `aura_moe` of 8 layers with 32 experts, of which a token uses 4, is trained for some minutes on installed text of
four domains, with experts of 32 hidden units. Then every unit is split into 16 that share its output (Net2WiderNet,
arXiv 1511.05641): the function, and so the routing of every token, stays what was learned, and an expert has 1.5 MiB in
float32, all of them 384 MiB. Seeded; kept in a directory, and made again where it is not there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from report import tell
from torch.nn import functional

from aura.experts.language.model import AuraMoeConfig, AuraMoeForCausalLM
from aura.experts.language.text import read_text
from aura.experts.language.tokens import save_tokenizer, tokenize

VOCABULARY, WIDTH, LAYERS, EXPERTS, CHOICES, HIDDEN, SPLIT = 1024, 256, 8, 32, 4, 32, 16
SEQUENCE, BATCH, STEPS, RATE = 128, 16, 300, 2e-3
DOMAIN_BYTES = 1_000_000
HELD_OUT = "held_out.npz"


@dataclass(frozen=True)
class Trained:
    """A model directory with text that the model has not seen.

    Attributes:
        directory: The model and its tokenizer.
        held_out: Tokens by domain, int64[n].
    """

    directory: Path
    held_out: dict[str, np.ndarray]


def trained_model(home: Path, *, steps: int = STEPS, seed: int = 0) -> Trained:
    """The model in a directory under `home`, trained if it is not there."""
    directory = home / f"offload-{steps}-{seed}"
    if not (directory / HELD_OUT).is_file():
        partial = home / f"{directory.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _make(partial, steps, seed)
        partial.rename(directory)
    with np.load(directory / HELD_OUT) as held_out:
        return Trained(directory, {name: held_out[name].astype(np.int64) for name in held_out.files})


def _make(directory: Path, steps: int, seed: int) -> None:
    text = tokenize(read_text(domain_bytes=DOMAIN_BYTES), VOCABULARY)
    model = _trained(text.training, text.card.vocabulary, steps, seed)
    _widened(model).save_pretrained(directory)
    save_tokenizer(text.tokenizer_json, directory)
    np.savez(directory / HELD_OUT, **text.held_out)


def _config(vocabulary: int, hidden: int) -> AuraMoeConfig:
    return AuraMoeConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=WIDTH // 4,
        intermediate_size=4 * WIDTH,
        moe_intermediate_size=hidden,
        num_experts=EXPERTS,
        num_experts_per_tok=CHOICES,
        norm_topk_prob=True,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def _trained(training: dict[str, np.ndarray], vocabulary: int, steps: int, seed: int) -> AuraMoeForCausalLM:
    """Sequences from all domains alike, next-token loss, AdamW with a linear warm-up and decay."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = AuraMoeForCausalLM(_config(vocabulary, HIDDEN)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    texts = list(training.values())
    warm = max(1, steps // 10)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / warm, (steps - step) / (steps - warm + 1))
        rows = []
        for number in range(BATCH):
            tokens = texts[(step + number) % len(texts)]
            start = int(random.integers(len(tokens) - SEQUENCE))
            rows.append(tokens[start : start + SEQUENCE].astype(np.int64))
        batch = torch.from_numpy(np.stack(rows))
        loss = model(input_ids=batch, labels=batch, output_router_logits=True).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            tell(f"training step {step + 1} of {steps}: loss {loss.item():.3f}")
    return model.eval()


def _widened(narrow: AuraMoeForCausalLM) -> AuraMoeForCausalLM:
    """The same function with `SPLIT` units in the place of each hidden unit of an expert."""
    wide = AuraMoeForCausalLM(_config(narrow.config.vocab_size, HIDDEN * SPLIT)).eval()
    weights = narrow.state_dict()
    for name in weights:
        if name.endswith("experts.gate_up_proj"):
            weights[name] = weights[name].repeat_interleave(SPLIT, dim=1)
        elif name.endswith("experts.down_proj"):
            weights[name] = weights[name].repeat_interleave(SPLIT, dim=2) / SPLIT
    wide.load_state_dict(weights)
    given = torch.arange(64)[None]
    with torch.inference_mode():
        apart = functional.l1_loss(wide(given).logits, narrow(given).logits).item()
    if apart > 1e-4:
        raise ValueError(f"the widened model differs by {apart:g} a logit: widening has to keep the function")
    return wide
