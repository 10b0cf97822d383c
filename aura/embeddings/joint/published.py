"""What is published of a training: the model, what it was trained from, and when it is time for another one.

Belongs here: the value of the asset, and its age. Does not: the training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from aura.corpus.manifest import OK, CorpusManifest
from aura.corpus.rows import content_id
from aura.embeddings.encoder import SharedSpace
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.errors import JointModelError
from aura.embeddings.joint.fusion_gain import FusionReport
from aura.embeddings.joint.model import JointModel
from aura.embeddings.joint.unheard import UnheardSpeakers
from aura.embeddings.opening import Encoders
from aura.embeddings.spaces import PublishedSpace
from aura.tiers.values import Part

_LISTED, _MODEL, _SPEAKERS, _FUSION = "listed", "model", "speakers", "fusion"


@dataclass(frozen=True, eq=False)
class TrainedSpace(PublishedSpace):
    """A joint model that was trained on a source.

    Attributes:
        model: The model.
        listed: Everything usable that the source held then: the string columns item_id, and about, a digest of what
            says which items belong together.
    """

    model: JointModel
    listed: pa.Table

    @classmethod
    def of(cls, model: JointModel, manifest: CorpusManifest) -> Self:
        """What was trained on what a manifest lists."""
        return cls(model, _usable(manifest))

    def open(self, encoders: Encoders) -> SharedSpace:  # noqa: ARG002  it needs no other weights
        """The model itself."""
        return self.model

    def outdated(self, manifest: CorpusManifest, config: JointConfig, share: float) -> str | None:
        """Why another training is due, None while it is not.

        Another model means that every item is encoded anew, so a few new items are no reason.

        Args:
            manifest: What the source holds now.
            config: The settings of a training now.
            share: Share of the items that may have come or gone since.
        """
        if self.model.card.config != config:
            return "the settings of the training have changed"
        then, now = _keys(self.listed), _keys(_usable(manifest))
        come = pc.sum(pc.invert(pc.is_in(now, then))).as_py() or 0
        gone = pc.sum(pc.invert(pc.is_in(then, now))).as_py() or 0
        if come + gone > share * len(then):
            return f"{come} of {len(now)} items are new, or belong to others than before, and {gone} are gone"
        return None

    def to_parts(self) -> Mapping[str, Part]:
        """The parts of the model, and "listed"."""
        return {**self.model.to_parts(), _LISTED: self.listed}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put it together; raises JointModelError when the parts are another thing's."""
        listed = parts.get(_LISTED)
        if not isinstance(listed, pa.Table) or listed.column_names != ["item_id", "about"]:
            raise JointModelError(f"a trained space has a part {_LISTED!r}, got {sorted(parts)}; train it again")
        return cls(JointModel.from_parts({name: part for name, part in parts.items() if name != _LISTED}), listed)


@dataclass(frozen=True)
class JointReport:
    """How well a joint model does where it is hard: people whom it never heard, and modalities that are degraded.

    Attributes:
        model: Fingerprint of the model.
        speakers: Results of leaving each speaker out of a training in turn; None with too few speakers.
        fusion: What fusing image and sound gains; None without all three modalities.
    """

    model: str
    speakers: UnheardSpeakers | None
    fusion: FusionReport | None

    def to_parts(self) -> Mapping[str, Part]:
        """JSON parts, of what there is; the CPU time, which is never the same, is left out."""
        speakers = None if self.speakers is None else replace(self.speakers, cpu_s=0.0)
        found = {_SPEAKERS: speakers, _FUSION: self.fusion}
        return {_MODEL: self.model.encode()} | {
            name: value.to_json() for name, value in found.items() if value is not None
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put it together; raises JointModelError when the parts are another thing's."""
        model, speakers, fusion = parts.get(_MODEL), parts.get(_SPEAKERS), parts.get(_FUSION)
        if not isinstance(model, bytes):
            raise JointModelError(
                f"a report has a part {_MODEL!r}, got {sorted(parts)}; materialize joint_report again"
            )
        return cls(
            model.decode(),
            UnheardSpeakers.from_json(speakers) if isinstance(speakers, bytes) else None,
            FusionReport.from_json(fusion) if isinstance(fusion, bytes) else None,
        )


def _usable(manifest: CorpusManifest) -> pa.Table:
    usable = manifest.table.filter(pc.equal(manifest.table["status"], OK))
    about = [
        content_id("\0".join(str(row[name]) for name in ("group", "label", "sublabel")).encode())
        for row in usable.select(["group", "label", "sublabel"]).to_pylist()
    ]
    return pa.table({"item_id": usable["item_id"], "about": pa.array(about, pa.string())})


def _keys(listed: pa.Table) -> pa.Array:
    return pc.unique(pc.binary_join_element_wise(listed["item_id"], listed["about"], " "))
