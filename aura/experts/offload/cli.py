"""The commands `aura experts`: take a model's experts into the store, list them, run the model, remove them.

Belongs here: options, tables and JSON. Does not: what is done (the rest of `aura.experts.offload`).
"""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aura.events.opening import open_event_log
from aura.experts.offload.past import known_transitions, past_activations
from aura.experts.offload.store import ExpertModel, ExpertStore
from aura.experts.routing.requests import REQUEST, RequestActivations, publish_request
from aura.settings import Settings, load_settings
from aura.terminal import AsJson, AsJsonLines, completing, print_json, print_json_lines, working
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StorageError
from aura.tiers.opening import open_configured_store
from aura.tiers.records import Tier
from aura.tiers.store import TieredStore, join_store

if TYPE_CHECKING:
    from aura.experts.offload.figures import Generation
    from aura.experts.offload.runtime import ExpertRuntime


def _size(text: str) -> int:
    """Bytes, as an option gives them."""
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        raise typer.BadParameter(f"{text!r} is no number of bytes such as 512MiB") from error


def _request(text: str) -> str:
    """An id of a request, as an option gives it."""
    if not REQUEST.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no id: give 1 to 100 letters, digits, '_', ':' or '-'")
    return text


experts_app = typer.Typer(no_args_is_help=True, help="Mixture-of-experts models whose experts live in the tiers.")
console = Console()

ModeName = Literal["resident", "cold", "lru", "online", "planned"]
MIB = 1 << 20
COMPLETING_SECONDS = 1.0
"""Longest wait of a shell that completes a name."""


def _names() -> list[str]:
    """Names of the models, if another process has the store open."""
    settings = load_settings()
    with join_store(settings.store_directory, timeout_seconds=COMPLETING_SECONDS) as store:
        return [model.name for model in ExpertStore(store).models()]


_complete = completing(_names)


@experts_app.command("put")
def experts_put(
    directory: Annotated[Path, typer.Argument(help="Model directory of transformers, with safetensors files.")],
    *,
    name: Annotated[str | None, typer.Option(help="Name in the store (none: that of the directory).")] = None,
    as_json: AsJson = False,
) -> None:
    """Take the experts of a model into the store, one object each, durable and verified.

    One layer is in memory at a time. What is there already is not written again; the directory stays where it is, since
    everything but the experts is read from it.

    Example: aura experts put ~/models/olmoe --name olmoe
    """
    with working("Reading ...") as tell, open_configured_store(load_settings()) as store:
        model = ExpertStore(store).put(directory.expanduser(), name, tell=tell)
    if as_json:
        print_json(asdict(model))
        return
    console.print(
        f"{escape(model.name)}: {sum(model.experts)} experts of {model.layers} layers, {model.bytes / MIB:.1f} MiB. "
        f"`aura experts run {escape(model.name)} PROMPT` runs it.",
        soft_wrap=True,
    )


@experts_app.command("list")
def experts_list(*, as_json: AsJsonLines = False) -> None:
    """List the models whose experts are in the store, and the tiers that hold them.

    Example: aura experts list --json
    """
    with _opened(load_settings()) as store:
        experts = ExpertStore(store)
        rows = [_row(experts, model) for model in experts.models()]
    if as_json:
        print_json_lines(rows)
        return
    table = Table("model", "layers", "experts", "MiB", "tiers", "from")
    for row in rows:
        tiers = ", ".join(f"{tier} {count}" for tier, count in row["tiers"].items())
        table.add_row(
            escape(row["name"]),
            str(len(row["experts"])),
            str(sum(row["experts"])),
            f"{row['bytes'] / MIB:.1f}",
            tiers,
            escape(row["source"]),
        )
    console.print(table)


@experts_app.command("run")
def experts_run(
    model: Annotated[
        str, typer.Argument(autocompletion=_complete, help="Name of a model in the store, see `aura experts list`.")
    ],
    prompt: Annotated[str, typer.Argument(help="What it goes on from.")],
    *,
    mode: Annotated[
        ModeName,
        typer.Option(
            help="resident: all experts in memory. cold: each read from L3 at each use. lru: brought to fast memory, "
            "the least recently used leave. online: as the store's own layer places them. planned: the placement, with "
            "prefetch as long as it pays."
        ),
    ] = "planned",
    budget: Annotated[
        int | None,
        typer.Option(
            parser=_size,
            metavar="BYTES",
            help="Bytes of fast memory for lru and planned, such as 512MiB (none: all there is).",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate, at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of sampling; 0 takes the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of sampling.")] = 0,
    request: Annotated[
        str | None,
        typer.Option(
            parser=_request,
            metavar="ID",
            help="Id under which the experts that it used are told to the event log (none: not).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a model within a budget for its experts, and say what it took.

    The text is the same in every mode, bit for bit. The CPU computes. The planned mode begins with what has been
    published of the model's routing: its routing table and the activations of earlier requests.

    Examples:
        aura experts run olmoe "def quicksort(items):" --budget 2GiB

        aura experts run olmoe "Once upon a time" --mode lru --budget 2GiB --json
    """
    settings = load_settings()
    with _opened(settings) as store:
        described = ExpertStore(store).model(model)  # before torch is imported
        with working("Opening ...") as tell:
            from aura.experts.offload.runtime import ExpertRuntime
            from aura.experts.offload.words import Words

            planned, catalog = mode == "planned", Catalog(store)
            with ExpertRuntime(
                store,
                model,
                mode=mode,
                budget_bytes=budget,
                transitions=known_transitions(catalog, described) if planned else None,
                past=past_activations(catalog, described) if planned else (),
            ) as runtime:
                words = Words(Path(runtime.model.source))
                tell("Answering ...")
                answer = runtime.generate(
                    words.tokens(prompt), max_new_tokens=tokens, temperature=temperature, seed=seed
                )
                text = words.text(answer.tokens)
        _print_run(runtime, answer, text, as_json=as_json)
        if request is not None:  # a log that cannot be reached takes no answer
            _tell(settings, model, request, answer)


@experts_app.command("remove")
def experts_remove(
    model: Annotated[str, typer.Argument(autocompletion=_complete, help="Name of a model in the store.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Remove the experts of a model from the store. Its directory stays as it is.

    Example: aura experts remove olmoe
    """
    with _opened(load_settings()) as store:
        removed = ExpertStore(store).remove(model)
    if as_json:
        print_json({"name": model, "removed": removed})
        return
    console.print(f"{removed} experts of {escape(model)} are removed.")


def _tell(settings: Settings, model: str, request: str, answer: Generation) -> None:
    """Tell the event log which experts a request used."""
    used = RequestActivations(
        request,
        model,
        int(answer.given.max()),
        answer.activations,
        datetime.now(UTC),
        given=answer.given,
        dropped=answer.dropped,
    )
    with closing(open_event_log(settings)) as log:
        publish_request(log, used, source=socket.gethostname())


def _print_run(runtime: ExpertRuntime, answer: Generation, text: str, *, as_json: bool) -> None:
    figures = answer.figures
    if as_json:
        found: dict[str, Any] = asdict(figures) | {
            "text": text,
            "tokens": answer.tokens.tolist(),
            "tokens_per_second": figures.tokens_per_second,
            "hit_ratio": figures.hit_ratio,
            "budget_bytes": runtime.shelf.budget_bytes,
            "cycle_bytes": runtime.cycle_bytes,
            "experts_bytes": runtime.model.bytes,
        }
        print_json(found)
        return
    console.print(escape(text), soft_wrap=True)
    said = f"{figures.tokens_per_second:.1f} tokens a second, {figures.new_tokens} in {figures.seconds:.2f} s"
    if figures.hit_ratio is not None:
        reads = ", ".join(f"{tier} {count}" for tier, count in figures.reads.items())
        said += (
            f"; hit ratio {figures.hit_ratio:.2f} ({reads}), {figures.bytes_read / MIB:.1f} MiB read, waited"
            f" {figures.waited_seconds:.2f} s, fetched ahead {figures.useful} useful, {figures.useless} useless"
        )
    console.print(f"[dim]{said}[/]", soft_wrap=True)
    if runtime.short_of_cycle is not None:
        budget, cycle = (f"{size / MIB:.1f} MiB" for size in runtime.short_of_cycle)
        console.print(f"[dim]The budget of {budget} is below the {cycle} that one token uses.[/]", soft_wrap=True)


def _row(experts: ExpertStore, model: ExpertModel) -> dict[str, Any]:
    tiers = [entry.tier for entry in experts.entries(model.name)]
    return asdict(model) | {"tiers": {tier.value: tiers.count(tier) for tier in Tier if tier in tiers}}


def _opened(settings: Settings) -> TieredStore:
    if not settings.store_directory.is_dir():
        remedy = "`aura experts put DIRECTORY` makes it."
        raise StorageError("There is no store yet", path=str(settings.store_directory), remedy=remedy)
    return open_configured_store(settings)
