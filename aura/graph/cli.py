"""`aura graph`: the graph for people.

Belongs here: printing. Does not: anything that another program needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aura.graph.guarded_graph import GuardedGraph
from aura.graph.model import Direction, NodeId
from aura.graph.opening import open_graph
from aura.graph.store import GraphStore
from aura.settings import load_settings

graph_app = typer.Typer(
    no_args_is_help=True, help="The graph of lineage and dependencies. A node is written Label:key."
)
console = Console()

NodeArgument = Annotated[str, typer.Argument(help="Label:key, for example Asset:text_embeddings.")]


@contextmanager
def _graph() -> Iterator[GraphStore]:
    with open_graph(load_settings()) as graph:
        yield graph
        status = graph.status()
        if status.waiting or status.refused:
            console.print(
                f"{escape(status.place)} is behind by {status.waiting} writes; {status.refused} were refused for good.",
                soft_wrap=True,
            )


@graph_app.command()
def neighbours(
    node: NodeArgument,
    direction: Annotated[str, typer.Option(help="out, in or both.")] = "both",
    limit: Annotated[int, typer.Option(help="The largest number.")] = 100,
) -> None:
    """Print the nodes beside a node."""
    ways: dict[str, Direction] = {"out": "out", "in": "in", "both": "both"}
    if direction not in ways:
        raise typer.BadParameter(f"{direction!r}: expected out, in or both")
    table = Table("from", "edge", "to", "properties of the edge")
    with _graph() as graph:
        for each in graph.neighbours(NodeId.parse(node), ways[direction], limit=limit):
            edge = each.edge
            facts = ", ".join(f"{name}={value}" for name, value in edge.properties.items())
            table.add_row(*(escape(str(text)) for text in (edge.source, edge.type, edge.target, facts)))
        console.print(table)


@graph_app.command()
def path(source: NodeArgument, target: NodeArgument) -> None:
    """Print the shortest path from one node to another."""
    with _graph() as graph:
        found = graph.shortest_path(NodeId.parse(source), NodeId.parse(target))
        console.print(escape(str(found)) if found else "There is no path.", soft_wrap=True)


@graph_app.command()
def impact(
    node: NodeArgument,
    limit: Annotated[int, typer.Option(help="The largest number.")] = 100,
) -> None:
    """Print everything that a node has an effect on, nearest first."""
    table = Table("edges away", "node")
    with _graph() as graph:
        for each in graph.impact(NodeId.parse(node), limit=limit):
            table.add_row(str(each.depth), escape(str(each.id)))
        console.print(table)


@graph_app.command()
def counts() -> None:
    """Print the number of nodes by label and of edges by type."""
    table = Table("", "number")
    with _graph() as graph:
        found = graph.counts()
        for name, number in [*found.nodes.items(), *found.edges.items()]:
            table.add_row(name, str(number))
        console.print(table)


@graph_app.command()
def digest() -> None:
    """Print 64 digits that are equal for equal graphs, wherever they are stored."""
    with _graph() as graph:
        console.print(graph.digest())


@graph_app.command()
def drain() -> None:
    """Send the writes that wait for the server."""
    with _graph() as graph:
        sent = graph.drain() if isinstance(graph, GuardedGraph) else 0
        console.print(f"{sent} writes were sent to {escape(graph.status().place)}.", soft_wrap=True)
