"""The one way to write an asset of AURA.

An author writes a function that takes typed inputs and returns a value; everything else happens in `step.py`, once,
for every asset: the measurement, the checks that guard the meaning, publication only after the checks, reuse when
nothing that the value depends on has changed, and the record of what it cost.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args, get_type_hints

import dagster as dg

from aura_assets.automation import FRESH_FOR_A_DAY, on_changed_input
from aura_assets.op_tags import GPU_POOL, GPU_TAGS
from aura_assets.partitions import sources
from aura_assets.step import Body, Design, Step, Surroundings, ValueCheck

OWNERS = ["team:aura"]

SETTINGS = "settings"
"""Key of an asset's metadata that lists the sections of the settings that its value depends on."""

SURROUNDINGS = {
    name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=dg.ResourceParam[kind])
    for name, kind in get_type_hints(Surroundings).items()
}
"""The resources that every step needs, as parameters for Dagster to fill."""


def aura_asset(
    *,
    group: str,
    kinds: set[str],
    checks: Sequence[ValueCheck],
    partitioned: bool = True,
    partitions: dg.PartitionsDefinition = sources,
    settings: Sequence[str] = (),
    deps: Sequence[str] = (),
    reusable: bool = False,
    wants_gpu: bool = False,
    automation: dg.AutomationCondition | None = None,
    automatic: bool = True,
    code_version: str = "1",
    kept: bool = False,
) -> Callable[[Body], dg.AssetsDefinition]:
    """Turn a function into an asset. The asset has the function's name; its docstring is the description in the UI.

    Args:
        group: Group in the UI.
        kinds: Labels in the UI, at most three.
        checks: At least one check that guards the meaning of the value.
        partitioned: Whether there are partitions, or a single value. An input without partitions is read by each
            partition; an input with partitions that a single value reads is annotated `Mapping[str, Type]`.
        partitions: How it is cut; by default one partition per corpus source.
        settings: Sections of the settings that the value depends on.
        deps: Upstream assets that are not inputs of the function.
        reusable: The value follows from the inputs, the settings and the code alone, so that an equal one is reused.
        wants_gpu: The step waits for the GPU pool and carries the GPU tags.
        automation: When it is computed without being asked; by default when an input's content changes, and never if it
            has none.
        automatic: Whether it is computed without being asked at all.
        code_version: To be raised when the same inputs give another value.
        kept: The value tells what was, and stays when an input is skipped and what was made of it is withdrawn.
    """

    def decorate(body: Body) -> dg.AssetsDefinition:
        signature = inspect.signature(body, eval_str=True)
        design = Design(
            name=body.__name__,
            group=group,
            checks=tuple(checks),
            inputs=tuple(name for name, p in signature.parameters.items() if _is_value(p.annotation)),
            settings=tuple(settings),
            code_version=code_version,
            reusable=reusable,
            kept=kept,
            partitioned=partitioned,
        )

        def compute(context: dg.AssetExecutionContext, **arguments: Any) -> Iterator[Any]:  # noqa: ANN401 - as the author's
            surroundings = Surroundings(**{name: arguments[name] for name in SURROUNDINGS})
            own = {name: value for name, value in arguments.items() if name in signature.parameters}
            yield from Step(design, context, surroundings).run(body, own)

        # Dagster reads inputs and resources off the signature: show it the author's, and what the step itself needs.
        parameters = {**signature.parameters, **{p.name: p for p in SURROUNDINGS.values()}}
        ordered = sorted(parameters.values(), key=lambda p: p.kind)
        compute.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        compute.__annotations__ = {p.name: p.annotation for p in ordered}
        return dg.multi_asset(
            name=design.name,
            outs={
                design.name: dg.AssetOut(
                    is_required=False,
                    group_name=group,
                    owners=OWNERS,
                    kinds=kinds,
                    description=inspect.getdoc(body),
                    code_version=code_version,
                    automation_condition=automation or (on_changed_input() if design.inputs and automatic else None),
                    freshness_policy=FRESH_FOR_A_DAY if automatic and not (design.inputs and partitioned) else None,
                    metadata={SETTINGS: list(settings)},
                )
            },
            check_specs=[
                dg.AssetCheckSpec(check.name, asset=design.name, description=check.description, blocking=check.blocking)
                for check in checks
            ],
            # The step may leave its output out, and may evaluate its checks alone.
            can_subset=True,
            deps=list(deps),
            partitions_def=partitions if partitioned else None,
            op_tags=GPU_TAGS if wants_gpu else None,
            pool=GPU_POOL if wants_gpu else None,
        )(compute)

    return decorate


def _is_value(annotation: object) -> bool:
    """Whether a parameter takes what is published: one value, or several by their partitions."""
    return any(hasattr(each, "from_parts") for each in (annotation, *get_args(annotation)[1:]))
