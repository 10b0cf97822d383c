"""A run of the corpus job in a process that dies as by `kill -9`: `python shell_run_process.py MOMENT SOURCE`.

The moments are those at which a death could hurt: while texts are encoded, when the blocks of the diagrams are on disk
and the pointer to them is not, and after the third epoch of the training.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import dagster as dg

from aura.services.stack import prepare_dagster_home
from aura.settings import load_settings
from aura.tiers.catalog import Catalog
from aura_assets.build import build_defs
from resources.progress import Report


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_in(moment: str):
    """Progress reports during which the process dies, if the moment is one of theirs."""

    def progress(name: str) -> Report:
        def report(done: int, total: int) -> None:
            encoding = moment == "embedding" and name.startswith("text_embeddings")
            training = moment == "training" and name.startswith("expert_model") and done == 3
            if encoding or training:
                die()

        return report

    return progress


def die_before_the_pointer(frame: FrameType, event: str, argument: object) -> None:
    """A profiler that ends the process when the blocks of the diagrams are written."""
    written = frame.f_locals["blocks"] if event == "return" and frame.f_code is Catalog._write_blocks.__code__ else ()
    if any(key.startswith("values/embedding_diagrams/") for key in written):
        die()


def main(moment: str, source: str) -> None:
    settings = load_settings()
    prepare_dagster_home(settings, Path(__file__).resolve().parents[2])
    defs = build_defs(settings, resources={"progress": dying_in(moment)})
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("sources", [source])
        if moment == "publishing":
            sys.setprofile(die_before_the_pointer)
        defs.resolve_job_def("corpus").execute_in_process(instance=instance, partition_key=source)


if __name__ == "__main__":
    main(*sys.argv[1:])
