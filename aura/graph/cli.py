"""`aura graph`: the graph for people.

Belongs here: printing. Does not: anything that another program needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aura.graph.errors import GraphValueError
from aura.graph.model import Direction, NodeId
from aura.settings import load_settings
from aura.terminal import AsJson, AsJsonLines, print_json, print_json_lines, working

if TYPE_CHECKING:
    from aura.graph.store import GraphStore

graph_app = typer.Typer(
    no_args_is_help=True, help="The graph of lineage and dependencies. A node is written Label:key."
)
console = Console()


def _node(text: str) -> NodeId:
    try:
        return NodeId.parse(text)
    except GraphValueError as error:
        raise typer.BadParameter(str(error)) from error


NodeArgument = Annotated[NodeId, typer.Argument(parser=_node, help="Label:key, for example Asset:text_embeddings.")]
Limit = Annotated[int, typer.Option(min=1, help="The largest number.")]


@contextmanager
def _graph() -> Iterator[GraphStore]:
    from aura.graph.opening import open_graph

    with open_graph(load_settings()) as graph:
        yield graph
        status = graph.status()
        if status.waiting or status.refused:
            Console(stderr=True).print(
                f"{escape(status.place)} is behind by {status.waiting} writes; {status.refused} were refused for good.",
                soft_wrap=True,
            )


@graph_app.command()
def neighbours(
    node: NodeArgument,
    *,
    direction: Annotated[Direction, typer.Option(help="Edges that leave it, that lead to it, or both.")] = "both",
    limit: Limit = 100,
    as_json: AsJsonLines = False,
) -> None:
    """Print the nodes beside a node.

    For example `aura graph neighbours Asset:text_embeddings --direction out`.
    """
    with _graph() as graph:
        edges = [each.edge for each in graph.neighbours(node, direction, limit=limit)]
    if as_json:
        print_json_lines(
            {"from": str(edge.source), "edge": edge.type, "to": str(edge.target), "properties": dict(edge.properties)}
            for edge in edges
        )
        return
    table = Table("from", "edge", "to", "properties of the edge")
    for edge in edges:
        facts = ", ".join(f"{name}={value}" for name, value in edge.properties.items())
        table.add_row(*(escape(str(text)) for text in (edge.source, edge.type, edge.target, facts)))
    console.print(table)


@graph_app.command()
def path(source: NodeArgument, target: NodeArgument, *, as_json: AsJson = False) -> None:
    """Print the shortest path from one node to another. That there is none is an answer too: the exit code is 0.

    For example `aura graph path Asset:corpus_manifest Asset:text_embeddings`.
    """
    with _graph() as graph:
        found = graph.shortest_path(source, target)
    if as_json:
        steps = found and [{"edge": step.type, "node": str(step.node)} for step in found.steps]
        print_json({"from": str(source), "to": str(target), "steps": steps})
        return
    console.print(escape(str(found)) if found else "There is no path.", soft_wrap=True)


@graph_app.command()
def impact(node: NodeArgument, *, limit: Limit = 100, as_json: AsJsonLines = False) -> None:
    """Print everything that a node has an effect on, nearest first.

    For example `aura graph impact Asset:corpus_manifest --limit 20`.
    """
    with _graph() as graph:
        reached = graph.impact(node, limit=limit)
    if as_json:
        print_json_lines({"edges_away": each.depth, "node": str(each.id)} for each in reached)
        return
    table = Table("edges away", "node")
    for each in reached:
        table.add_row(str(each.depth), escape(str(each.id)))
    console.print(table)


@graph_app.command()
def counts(*, as_json: AsJson = False) -> None:
    """Print the number of nodes by label and of edges by type.

    For example `aura graph counts --json`.
    """
    with _graph() as graph:
        found = graph.counts()
    if as_json:
        print_json({"nodes": dict(found.nodes), "edges": dict(found.edges)})
        return
    table = Table("", "number")
    for name, number in [*found.nodes.items(), *found.edges.items()]:
        table.add_row(name, str(number))
    console.print(table)


@graph_app.command()
def digest(*, as_json: AsJson = False) -> None:
    """Print 64 digits that are equal for equal graphs, wherever they are stored.

    For example `aura graph digest`, before and after a move from the embedded graph to Neo4j.
    """
    with _graph() as graph, working("Reading every node and edge ..."):
        found = graph.digest()
    if as_json:
        print_json({"digest": found})
        return
    console.print(found)


@graph_app.command()
def drain(*, as_json: AsJson = False) -> None:
    """Send the writes that wait for the server.

    For example `aura graph drain`, once Neo4j is back.
    """
    from aura.graph.guarded_graph import GuardedGraph

    with _graph() as graph:
        with working("Sending ..."):
            sent = graph.drain() if isinstance(graph, GuardedGraph) else 0
        status = graph.status()
    if as_json:
        print_json({"sent": sent, "place": status.place, "waiting": status.waiting, "refused": status.refused})
        return
    console.print(f"{sent} writes were sent to {escape(status.place)}.", soft_wrap=True)
