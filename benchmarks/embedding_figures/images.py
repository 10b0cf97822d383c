"""ViT-B/16 and CLIP-B/32 on digits and photographs beside the plain loop over `transformers`.

The loop takes 32 images after the other through processor and network in float32, as the library's documentation shows.
The networks have their real architecture and seeded weights: the time does not depend on the weights. The images are
those that scikit-learn comes with: digits as PNG, crops of its photographs as JPEG.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from report import Figure, figure, tell

from aura.embeddings.image import open_image_encoder
from embedding_figures.sides import agreement, in_turns, throughput

IMAGES = 64
PLAIN_BATCH = 32
GOAL = 2.0


def pictures(count: int) -> list[bytes]:
    """Real images in files: every other one a digit, the others crops of photographs."""
    from sklearn.datasets import load_digits, load_sample_images

    digits, photographs = load_digits().images, load_sample_images().images
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        if number % 2 == 0:
            found.append(_file(Image.fromarray((digits[number] * 15.9).astype(np.uint8)), "PNG"))
            continue
        photograph = photographs[number // 2 % len(photographs)]
        top, left = rng.integers(0, 100), rng.integers(0, 200)
        found.append(_file(Image.fromarray(photograph[top : top + 320, left : left + 400]), "JPEG"))
    return found


def _file(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def save_vit(directory: Path) -> None:
    """ViT-B/16 with seeded weights."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(directory)
    ViTImageProcessor().save_pretrained(directory)


def save_clip(directory: Path) -> None:
    """CLIP-B/32 with seeded weights."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(directory)
    CLIPImageProcessor().save_pretrained(directory)


MODELS = {"ViT-B/16 (seeded weights)": save_vit, "CLIP-B/32 (seeded weights)": save_clip}


def figures(data: Path | None, runs: int) -> list[Figure]:
    """All rows about images."""
    del data
    return measured("cpu", pictures(IMAGES), runs)


def measured(device: str, contents: list[bytes], runs: int, rate: float | None = None) -> list[Figure]:
    """Rows about these images on this device; `rate` in GFLOP/s adds the utilisation."""
    found: list[Figure] = []
    for name, save in MODELS.items():
        tell(f"{len(contents)} images, {name}, on {device}")
        with tempfile.TemporaryDirectory(prefix="aura-images-") as home:
            save(Path(home))
            ours = open_image_encoder(home, device=device)
            plain = plain_loop(home, contents, device)
            sides = {"AURA": lambda ours=ours: ours.encode(contents).vectors, "transformers float32": plain}
            vectors = {side: call() for side, call in sides.items()}
            seconds = in_turns(sides, runs)
        what = f"{name} on {device}"
        found += throughput(what, seconds, len(contents), {"transformers float32": GOAL}, "images/s")
        found.append(agreement(what, vectors["AURA"], vectors["transformers float32"], "transformers float32"))
        if rate is not None:
            flops = plain.flops()
            reached = [flops * len(contents) / each / 1e9 / rate for each in seconds["AURA"]]
            found.append(figure(f"{what}, AURA, share of the rate of matrix products", reached, "share"))
    return found


class plain_loop:  # noqa: N801  used as a function
    """The loop of the library's documentation."""

    def __init__(self, directory: str, contents: list[bytes], device: str) -> None:
        from transformers import AutoImageProcessor, AutoModel

        self._contents, self._device = contents, device
        self._processor = AutoImageProcessor.from_pretrained(directory)
        self._network = AutoModel.from_pretrained(directory, dtype=torch.float32).to(device).eval()
        # The plain ViT is saved without the weights of a pooling layer; its first token is its vector.
        self._is_joint = hasattr(self._network, "get_image_features")

    def __call__(self) -> np.ndarray:
        """Vectors [n, d] of all images."""
        parts = []
        for start in range(0, len(self._contents), PLAIN_BATCH):
            images = [Image.open(io.BytesIO(each)).convert("RGB") for each in self._contents[start:][:PLAIN_BATCH]]
            parts.append(self._vectors(images))
        return np.concatenate(parts)

    def flops(self) -> float:
        """Of one image."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self._vectors([Image.open(io.BytesIO(self._contents[0])).convert("RGB")])
        return float(counter.get_total_flops())

    def _vectors(self, images: list[Image.Image]) -> np.ndarray:
        inputs = self._processor(images=images, return_tensors="pt").to(self._device)
        with torch.no_grad():
            if self._is_joint:
                return self._network.get_image_features(**inputs).pooler_output.cpu().numpy()
            return self._network(**inputs).last_hidden_state[:, 0].cpu().numpy()
