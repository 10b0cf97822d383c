"""Corpus sources become partitions."""

from __future__ import annotations

import dagster as dg

from aura.corpus.registry import SourceRegistry, partition_changes


def source_partitions(
    target: dg.UnresolvedAssetJobDefinition, partitions: dg.DynamicPartitionsDefinition
) -> dg.SensorDefinition:
    """A sensor that keeps the partitions equal to the registered sources and lists each new source at once."""

    @dg.sensor(
        name="source_partitions",
        job=target,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Registered sources become partitions; a new one is listed at once, a removed one goes.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, registry: dg.ResourceParam[SourceRegistry]
    ) -> dg.SensorResult | dg.SkipReason:
        present = partitions.get_partition_keys(dynamic_partitions_store=context.instance)
        changes = partition_changes(registered=[spec.name for spec in registry.specs()], present=present)
        if not changes.added and not changes.removed:
            return dg.SkipReason(f"All {len(present)} registered sources are partitions.")
        requests = []
        if changes.added:
            requests.append(partitions.build_add_request(list(changes.added)))
        if changes.removed:
            requests.append(partitions.build_delete_request(list(changes.removed)))
        return dg.SensorResult(
            run_requests=[dg.RunRequest(partition_key=name) for name in changes.added],
            dynamic_partitions_requests=requests,
        )

    return sensor
