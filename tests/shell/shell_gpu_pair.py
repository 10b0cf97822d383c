"""Two steps that may run at once, in one run: `python shell_gpu_pair.py KIND SECONDS DIRECTORY`.

Each waits until the other has begun, at most the seconds; when it began and ended is written to the directory. KIND is
"pooled" for steps with the GPU's pool and tags, else "free". The Dagster instance is that of DAGSTER_HOME.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import dagster as dg

from aura_assets.op_tags import GPU_POOL, GPU_TAGS


def timed_asset(name: str, *, pooled: bool) -> dg.AssetsDefinition:
    @dg.asset(name=name, op_tags=GPU_TAGS if pooled else None, pool=GPU_POOL if pooled else None)
    def asset(context) -> None:
        directory = Path(context.run.tags["directory"])
        began = time.time()
        (directory / f"{name}.began").touch()
        while time.time() < began + float(context.run.tags["seconds"]) and len(list(directory.glob("*.began"))) < 2:
            time.sleep(0.02)
        (directory / f"{name}.json").write_text(json.dumps([began, time.time()]), encoding="utf-8")

    return asset


def pooled() -> dg.JobDefinition:
    return _pair(pooled=True)


def free() -> dg.JobDefinition:
    return _pair(pooled=False)


def _pair(*, pooled: bool) -> dg.JobDefinition:
    executor = dg.multiprocess_executor.configured({"max_concurrent": 2})
    assets = [timed_asset(name, pooled=pooled) for name in ("one", "two")]
    return dg.Definitions(assets=assets, jobs=[dg.define_asset_job("pair", executor_def=executor)]).resolve_job_def(
        "pair"
    )


if __name__ == "__main__":
    kind, seconds, directory = sys.argv[1:]
    with dg.DagsterInstance.get() as instance:
        job = dg.reconstructable({"pooled": pooled, "free": free}[kind])
        result = dg.execute_job(job, instance=instance, tags={"directory": directory, "seconds": seconds})
    sys.exit(not result.success)
