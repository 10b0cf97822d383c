"""What a person can look in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Within = Literal["texts", "images", "sounds", "fused"]

WITHIN: Mapping[Within, str] = {"texts": "text", "images": "image", "sounds": "audio", "fused": "fused"}
"""Each with the modality of the rows that are meant."""
