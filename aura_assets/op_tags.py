"""Tags that steps carry, each with its reason.

One constant per need, understood by every executor, so that the same graph runs on one machine, on Ray and on
Kubernetes and only the configuration chooses.
"""

from __future__ import annotations

import json

GPU_POOL = "gpu"
"""Pool of the local instance: `deploy/dagster.yaml` gives each pool one slot, so two GPU steps never share a device."""

GPU_TAGS = {
    # Run queues and people filter on this one.
    "aura/device": "gpu",
    # danielgafni/dagster-ray reads the resources of a step from this tag, as JSON.
    "dagster-ray/config": json.dumps({"num_gpus": 1}),
    # dagster-k8s merges this into the step's pod.
    "dagster-k8s/config": json.dumps(
        {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}}}
    ),
}
