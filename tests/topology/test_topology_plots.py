"""Pictures are PNGs that show what is certain in colour, for every kind of filtration and for what is empty."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from aura.topology.diagrams import Attempt, DiagramProvenance, PersistenceDiagrams
from aura.topology.plots import (
    ACCENT,
    barcode,
    betti_curves,
    landscape_band,
    landscape_curves,
    persistence_diagram,
    persistence_images,
)
from aura.topology.subsamples import averaged_landscapes
from aura.topology.vectors import TopologyVectors, VectorParameters

BARS = np.array([[0, 0, 0.5], [0, 0, 1.0], [0, 0, np.inf], [1, 1.0, 1.2], [1, 1.5, 3.5]])
OF_DIAGRAMS = [barcode, persistence_diagram, betti_curves]


def diagrams(bars=BARS, covering_radius=0.1, max_dimension=1, **fields):
    provenance = DiagramProvenance(
        10, 3, covering_radius, "euclidean", "a test", 7, max_dimension, (Attempt(3, "done"),), **fields
    )
    return PersistenceDiagrams.from_bars(np.array(bars, dtype=float).reshape(-1, 3), provenance)


def vectors(value=None):
    value = value or diagrams()
    return TopologyVectors.of(value, VectorParameters.fit([value], fitted_on="docs"))


def pixels(png):
    return imread(io.BytesIO(png))[:, :, :3]


def accent_pixels(png):
    """How many pixels have the colour of what is certain."""
    accent = [int(ACCENT[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return int((np.abs(pixels(png) - accent).max(axis=2) < 0.01).sum())


@pytest.mark.parametrize("draw", [barcode, persistence_diagram])
def test_only_certified_bars_are_coloured(draw):
    none, some, most = (accent_pixels(draw(diagrams(covering_radius=radius))) for radius in (1.0, 0.2, 0.01))
    assert none == 0
    assert 0 < some < most


def test_a_larger_bound_has_a_wider_band_in_the_diagram():
    white = [(pixels(persistence_diagram(diagrams(covering_radius=radius))) > 0.99).mean() for radius in (0.05, 0.2)]
    assert white[0] > white[1]


@pytest.mark.parametrize("draw", OF_DIAGRAMS)
@pytest.mark.parametrize(
    "value",
    [
        diagrams(covering_radius=0.0),
        diagrams(covering_radius=0.0, epsilon=0.5),
        diagrams(covering_radius=0.0, source="graph", filtration="superlevel", bars=[[0, -3, -1], [0, -5, np.inf]]),
        diagrams(bars=[], max_dimension=0),
        diagrams(bars=[[0, 0, np.inf]]),
        diagrams(bars=[*BARS, [2, 1, 2]], max_dimension=2),
    ],
    ids=["exact", "sparse", "negative", "empty", "one point", "three dimensions"],
)
def test_every_kind_of_diagrams_can_be_drawn(draw, value):
    picture = pixels(draw(value))
    assert min(picture.shape[:2]) > 150
    assert 0.02 < (picture < 0.5).any(axis=2).mean() + (picture < 0.99).any(axis=2).mean() < 1.5


def test_betti_curves_have_a_panel_for_each_dimension():
    one, two = (pixels(betti_curves(diagrams(bars=[[0, 0, 1]], max_dimension=top))).shape[0] for top in (0, 1))
    assert two > one + 100


@pytest.mark.parametrize("draw", [persistence_images, landscape_curves])
def test_vectors_can_be_drawn_and_show_where_the_long_bars_are(draw):
    assert accent_pixels(draw(vectors())) > 0
    assert pixels(draw(vectors(diagrams(bars=[])))).shape[1] > 300


def test_the_band_of_averaged_landscapes_is_wider_at_a_higher_confidence():
    cloud = np.random.default_rng(0).normal(size=(200, 2))
    pale = []
    for alpha in (0.5, 0.001):
        value = averaged_landscapes(cloud, size=20, count=10, seed=1, layers=1, alpha=alpha)
        picture = pixels(landscape_band(value))
        pale.append(((picture[:, :, 0] > 0.9) & (picture[:, :, 2] < 0.9) & (picture[:, :, 2] > 0.7)).sum())
    assert 0 < pale[0] < pale[1]
