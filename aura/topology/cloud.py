"""Point clouds: what a cloud has to be before its shape can be computed, and the errors that say why it is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.topology.inputs import InputError

LARGEST_COORDINATE = 1e150
"""Beyond it the square of a distance leaves the range of float64."""


class CloudError(InputError):
    """A point cloud cannot be used; the message names the row or the shape."""


class EmptyCloudError(CloudError):
    """A point cloud has no points, so it has no shape."""


def checked_cloud(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cloud in float64 after checking that every distance in it can be computed.

    Args:
        points: float32 or float64 [n, d], one point a row, n >= 1, d >= 1.

    Returns:
        float64 [n, d], C-contiguous; the input itself where it already is.

    Raises:
        EmptyCloudError: There are no rows.
        CloudError: Wrong shape or dtype, or a coordinate that is NaN, infinite or too large to be squared.
    """
    if points.ndim != 2:
        raise CloudError(f"a cloud is [points, coordinates], got shape {points.shape}: pass a 2-d array")
    if points.shape[0] == 0:
        raise EmptyCloudError("the cloud has no points: embed at least one item before asking for its shape")
    if points.shape[1] == 0:
        raise CloudError(f"the cloud has shape {points.shape}: every point needs at least one coordinate")
    if points.dtype not in (np.float32, np.float64):
        raise CloudError(f"the cloud has dtype {points.dtype}, expected float32 or float64: convert it first")
    cloud = np.ascontiguousarray(points, dtype=np.float64)
    usable = (np.abs(cloud) <= LARGEST_COORDINATE).all(axis=1)
    if not usable.all():
        row = int(np.argmin(usable))
        value = cloud[row][~(np.abs(cloud[row]) <= LARGEST_COORDINATE)][0]
        raise CloudError(
            f"row {row} of the cloud holds the coordinate {value}, expected finite values up to {LARGEST_COORDINATE:g}"
            f" ({int((~usable).sum())} of {len(cloud)} rows are affected): remove or repair those rows"
        )
    return cloud
