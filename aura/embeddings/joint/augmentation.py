"""Random changes of training items that leave what they show: a model of few items learns to see through them.

Sounds change as if another voice spoke them elsewhere: faster, higher, through another microphone, over noise (after
SpecAugment, Park et al. 2019, arXiv 1904.08779, and vocal tract length perturbation, Jaitly and Hinton 2013). All of
it is done on the log-mel spectrum, where it costs little.
"""

from __future__ import annotations

import math

import torch  # noqa: TID253 - works on tensors; nothing light imports this module
from torch import Tensor  # noqa: TID253
from torch.nn.functional import affine_grid, grid_sample  # noqa: TID253

SHAPES = 3
"""Cosines that a random frequency response is made of."""

_COVERED = 0.5
_LARGEST_COVER = 0.7
_WIDEST = 0.7
_MASKS = 2
_LOUDEST_NOISE = 0.4


def standardised(spectra: Tensor, frames: Tensor) -> Tensor:
    """Spectra [n, bins, t] less the mean of each band, over the standard deviation, both of the frames with sound.

    What a voice and a microphone add to every frame alike goes away with the means.
    """
    inside = (torch.arange(spectra.shape[2]) < frames[:, None]).to(spectra.dtype)[:, None]
    counts = inside.sum(dim=2, keepdim=True)
    centred = spectra - (spectra * inside).sum(dim=2, keepdim=True) / counts
    variance = (centred.square() * inside).sum(dim=(1, 2), keepdim=True) / (counts * spectra.shape[1])
    return centred / (variance.sqrt() + 1e-3)


def changed_sounds(spectra: Tensor, frames: Tensor, strength: float) -> Tensor:
    """Standardised spectra of sounds as others might have spoken them.

    Args:
        spectra: Log-mel spectra [n, bins, t] as the feature extractor gives them.
        frames: Frames with sound [n].
        strength: 1 for the usual changes, 0 for none.
    """
    if not strength:
        return standardised(spectra, frames)
    warped, slower = _warped(spectra, strength)
    frames = (frames / slower).clamp(4, spectra.shape[2])
    coloured = warped + _responses(warped, 0.12 * strength)
    return _masked(standardised(_with_noise(coloured, strength), frames), frames, strength)


def changed_images(pixels: Tensor, strength: float) -> Tensor:
    """Standardised pixels [n, channels, h, w], turned, scaled and moved a little, with noise, some partly covered."""
    if not strength:
        return pixels
    count = len(pixels)
    angle, scale = _between(-0.1, 0.1, count) * strength, torch.exp(_between(-0.06, 0.06, count) * strength)
    shift = _between(-0.075, 0.075, count, 2) * strength
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    maps = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).reshape(count, 2, 3)
    moved = grid_sample(
        pixels, affine_grid(maps, list(pixels.shape), align_corners=False), padding_mode="border", align_corners=False
    )
    return _covered(moved + 0.05 * strength * torch.randn(pixels.shape), strength)


def _covered(pixels: Tensor, strength: float) -> Tensor:
    """Half of the images with a rectangle of up to 0.7 of each side set to the mean (after Zhong et al. 2017)."""
    count, _, height, width = pixels.shape
    share = min(_LARGEST_COVER, _LARGEST_COVER * strength)
    rows, columns = (_stripes(torch.full((count,), side), side, share) for side in (height, width))
    chosen = (torch.rand(count) < _COVERED)[:, None, None]
    return pixels.masked_fill((rows[:, :, None] & columns[:, None, :] & chosen)[:, None], 0.0)


def _between(low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(shape) * (high - low) + low


def _warped(spectra: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Time and frequency stretched and shifted; and how much faster each sound became [n]."""
    count, bins, frames = spectra.shape
    faster = torch.exp(_between(-0.18, 0.18, count) * strength)
    higher = torch.exp(_between(-0.085, 0.085, count) * strength)
    late, up = _between(-0.085, 0.085, count) * strength, _between(-0.055, 0.055, count) * strength
    time = (torch.linspace(-1, 1, frames) + 1) * faster[:, None] - 1 + late[:, None]
    frequency = (torch.linspace(-1, 1, bins) + 1) * higher[:, None] - 1 + up[:, None]
    shape = (count, bins, frames)
    grid = torch.stack([time[:, None, :].expand(shape), frequency[:, :, None].expand(shape)], dim=3)
    return grid_sample(spectra[:, None], grid, padding_mode="border", align_corners=True)[:, 0], faster


def _responses(spectra: Tensor, scale: float) -> Tensor:
    """Smooth random frequency responses [n, bins, 1]."""
    count, bins, _ = spectra.shape
    order = torch.arange(1, SHAPES + 1)[:, None]
    shapes = torch.cos(math.pi * order * (torch.arange(bins) + 0.5) / bins)
    return (torch.randn(count, SHAPES) * scale @ shapes)[:, :, None]


def _with_noise(spectra: Tensor, strength: float) -> Tensor:
    """Noise added to the power, 16 to 80 dB below the loudest point; a unit of a spectrum is 40 dB."""
    loudest = spectra.amax(dim=(1, 2), keepdim=True)
    level = loudest - _between(_LOUDEST_NOISE, 2.0, len(spectra), 1, 1) / min(1.0, strength)
    noise = level + _responses(spectra, 0.1) + 0.08 * torch.randn(spectra.shape)
    return torch.logaddexp(spectra * _NEPERS, noise * _NEPERS) / _NEPERS


_NEPERS = 4 * math.log(10)
"""The feature extractor gives (log10 of the power + 4) / 4: this times a difference is that of natural logarithms."""


def _masked(spectra: Tensor, frames: Tensor, strength: float) -> Tensor:
    """Some bands and some stretches of time set to the mean."""
    count, bins, length = spectra.shape
    for _ in range(_MASKS):
        spectra = spectra.masked_fill(_stripes(torch.full((count,), bins), bins, 0.2 * strength)[:, :, None], 0.0)
        spectra = spectra.masked_fill(_stripes(frames, length, 0.15 * strength)[:, None, :], 0.0)
    return spectra


def _stripes(lengths: Tensor, size: int, share: float) -> Tensor:
    """One random stripe of up to a share of `size` in each row [n, size], within the row's length."""
    width = _between(0.0, 1.0, len(lengths), 1) * size * min(share, _WIDEST)
    start = _between(0.0, 1.0, len(lengths), 1) * (lengths[:, None] - width).clamp(min=0)
    places = torch.arange(size)
    return (places >= start) & (places < start + width)
