"""The graph in one SQLite file: the embedded default.

Belongs here: SQL. WAL with `synchronous=FULL`: readers do not wait for writers, and what was written outlives a crash.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath

from filelock import FileLock

from aura.graph.errors import GraphUnavailableError
from aura.graph.model import (
    DeleteNode,
    Direction,
    Edge,
    EdgeType,
    GraphCounts,
    Label,
    Neighbour,
    Node,
    NodeId,
    Path,
    Reached,
    ReplaceEdges,
    Step,
    Write,
    canonical_json,
)
from aura.graph.store import (
    MAX_LENGTH,
    MAX_PATHS,
    GraphStatus,
    GraphStore,
    check_batch,
    check_length,
    check_limit,
    missing_node,
    too_many_paths,
)
from aura.resilience.deadline import Deadline

SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes (
    id INTEGER PRIMARY KEY, label TEXT NOT NULL, key TEXT NOT NULL, properties TEXT NOT NULL, UNIQUE (label, key)
);
CREATE TABLE IF NOT EXISTS edges (
    source INTEGER NOT NULL REFERENCES nodes ON DELETE CASCADE,
    type TEXT NOT NULL,
    target INTEGER NOT NULL REFERENCES nodes ON DELETE CASCADE,
    properties TEXT NOT NULL,
    PRIMARY KEY (source, type, target)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS edges_by_target ON edges (target, type, source);
"""

COUNTED = "(json_array_length(:types) = 0 OR {}.type IN (SELECT value FROM json_each(:types)))"
"""Whether an edge is one of the types that were asked for, which are a JSON list."""

NEIGHBOURS = f"""
SELECT e.type, e.properties, e.way, n.label, n.key, n.properties FROM (
    SELECT type, properties, target AS other, 0 AS way FROM edges WHERE source = :id AND :out
    UNION ALL
    SELECT type, properties, source, 1 FROM edges WHERE target = :id AND :in AND NOT (:out AND source = :id)
) e JOIN nodes n ON n.id = e.other WHERE {COUNTED.format("e")} ORDER BY e.type, n.label, n.key, e.way LIMIT :limit
"""  # noqa: S608  the inserted text is a constant of this module, here and below

PATHS = f"""
WITH RECURSIVE walk(id, length, seen, steps) AS (
    SELECT :source, 0, '/' || :source || '/', ''
    UNION ALL
    SELECT e.target, w.length + 1, w.seen || e.target || '/', w.steps || '/' || e.type || ' ' || e.target
    FROM walk w JOIN edges e ON e.source = w.id
    WHERE w.length < :max_length AND w.id <> :target AND instr(w.seen, '/' || e.target || '/') = 0
        AND {COUNTED.format("e")}
)
SELECT steps FROM walk WHERE id = :target LIMIT :most
"""  # noqa: S608

REACHED = f"""
WITH RECURSIVE reached(id, depth) AS (
    SELECT :id, 0
    UNION
    SELECT e.target, r.depth + 1 FROM reached r JOIN edges e ON e.source = r.id
    WHERE r.depth < :max_depth AND {COUNTED.format("e")}
)
"""  # noqa: S608

IMPACT = f"""{REACHED}
SELECT n.label, n.key, min(r.depth) AS depth FROM reached r JOIN nodes n ON n.id = r.id
WHERE r.id <> :id GROUP BY r.id ORDER BY depth, n.label, n.key LIMIT :limit
"""  # noqa: S608

DISTANCES_TO = f"""
WITH RECURSIVE reached(id, depth) AS (
    SELECT :id, 0
    UNION
    SELECT e.source, r.depth + 1 FROM reached r JOIN edges e ON e.target = r.id
    WHERE r.depth < :max_depth AND {COUNTED.format("e")}
)
SELECT id, min(depth) FROM reached GROUP BY id
"""  # noqa: S608

ONWARD = f"""
SELECT e.type, n.label, n.key, e.target FROM edges e JOIN nodes n ON n.id = e.target
WHERE e.source = :id AND {COUNTED.format("e")} ORDER BY e.type, n.label, n.key
"""  # noqa: S608


class SqliteGraph(GraphStore):
    """A graph in a file, shared by the threads and processes of a machine."""

    def __init__(self, path: FilePath, timeout_seconds: float = 10.0) -> None:
        """Open the graph, making the file and its directory if need be.

        Args:
            path: The file.
            timeout_seconds: The longest that one call may take, waiting for other writers included.

        Raises:
            GraphUnavailableError: The file cannot be opened, or is no graph.
        """
        self._path = path
        self._timeout = timeout_seconds
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=timeout_seconds, isolation_level=None, check_same_thread=False
            )
            # SQLite does not wait for another process that turns a new file to WAL at the same moment.
            with FileLock(f"{path}.opening", timeout=timeout_seconds):
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.execute("PRAGMA foreign_keys=ON")
                self._connection.executescript(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise GraphUnavailableError(
                f"The graph {path} cannot be opened: {error}. Check the disk and the path."
            ) from error

    def apply(self, writes: Sequence[Write]) -> None:
        """Make all writes in one transaction; see GraphStore."""
        check_batch(writes)
        if not writes:
            return
        with self._working():
            self._connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                if isinstance(write, Node):
                    self._write_node(write)
                elif isinstance(write, Edge):
                    self._write_edge(write)
                elif isinstance(write, DeleteNode):
                    self._connection.execute("DELETE FROM nodes WHERE label = ? AND key = ?", _columns(write.id))
                else:
                    self._replace(write)
            self._connection.execute("COMMIT")

    def _write_node(self, node: Node) -> None:
        self._connection.execute(
            "INSERT INTO nodes (label, key, properties) VALUES (?, ?, ?) "
            "ON CONFLICT (label, key) DO UPDATE SET properties = excluded.properties",
            (*_columns(node.id), canonical_json(node.properties)),
        )

    def _write_edge(self, edge: Edge) -> None:
        source, target = self._existing(edge.source, edge), self._existing(edge.target, edge)
        self._connection.execute(
            "INSERT INTO edges (source, type, target, properties) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (source, type, target) DO UPDATE SET properties = excluded.properties",
            (source, edge.type.value, target, canonical_json(edge.properties)),
        )

    def _replace(self, write: ReplaceEdges) -> None:
        source = self._existing(write.source, write)
        removed = self._connection.execute(
            "DELETE FROM edges WHERE source = ? AND type = ? RETURNING target", (source, write.type.value)
        ).fetchall()
        for edge in write.edges:
            self._write_edge(edge)
        if write.prune:
            self._connection.executemany(
                "DELETE FROM nodes WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM edges WHERE source = ?1 OR target = ?1)",
                removed,
            )

    def _existing(self, node_id: NodeId, wanted_by: Edge | ReplaceEdges) -> int:
        number = self._number(node_id)
        if number is None:
            raise missing_node(node_id, wanted_by)
        return number

    def _number(self, node_id: NodeId) -> int | None:
        row = self._connection.execute("SELECT id FROM nodes WHERE label = ? AND key = ?", _columns(node_id)).fetchone()
        return None if row is None else int(row[0])

    def node(self, node_id: NodeId) -> Node | None:
        """The node; see GraphStore."""
        with self._working():
            row = self._connection.execute(
                "SELECT properties FROM nodes WHERE label = ? AND key = ?", _columns(node_id)
            ).fetchone()
        return None if row is None else Node(node_id, json.loads(row[0]))

    def neighbours(
        self,
        node_id: NodeId,
        direction: Direction = "both",
        types: Collection[EdgeType] = (),
        limit: int = 1000,
    ) -> list[Neighbour]:
        """The nodes beside a node; see GraphStore."""
        check_limit(limit)
        with self._working():
            rows = self._connection.execute(
                NEIGHBOURS,
                {
                    "id": self._number(node_id),
                    "out": direction != "in",
                    "in": direction != "out",
                    "types": _json_list(types),
                    "limit": limit,
                },
            ).fetchall()
        found = []
        for kind, properties, incoming, label, key, node_properties in rows:
            other = Node(NodeId(label, key), json.loads(node_properties))
            source, target = (other.id, node_id) if incoming else (node_id, other.id)
            found.append(Neighbour(Edge(kind, source, target, json.loads(properties)), other))
        return found

    def paths(
        self,
        source: NodeId,
        target: NodeId,
        max_length: int = 6,
        types: Collection[EdgeType] = (),
        limit: int = 100,
    ) -> list[Path]:
        """The simple paths between two nodes; see GraphStore."""
        check_length(max_length)
        check_limit(limit)
        with self._snapshot():
            begin, end = self._number(source), self._number(target)
            if begin is None or end is None:
                return []
            rows = self._connection.execute(
                PATHS,
                {
                    "source": begin,
                    "target": end,
                    "max_length": max_length,
                    "types": _json_list(types),
                    "most": MAX_PATHS + 1,
                },
            ).fetchall()
            if len(rows) > MAX_PATHS:
                raise too_many_paths(source, target, max_length)
            steps = [[step.split(" ") for step in text.split("/")[1:]] for (text,) in rows]
            ids = self._ids({int(number) for path in steps for _, number in path})
        found = [Path(source, tuple(Step(EdgeType(kind), ids[int(number)]) for kind, number in path)) for path in steps]
        return sorted(found, key=lambda path: path.order)[:limit]

    def shortest_path(
        self, source: NodeId, target: NodeId, max_length: int = MAX_LENGTH, types: Collection[EdgeType] = ()
    ) -> Path | None:
        """The first of the shortest paths; see GraphStore."""
        check_length(max_length)
        with self._snapshot():
            begin, end = self._number(source), self._number(target)
            if begin is None or end is None:
                return None
            distance = dict(
                self._connection.execute(
                    DISTANCES_TO, {"id": end, "max_depth": max_length, "types": _json_list(types)}
                ).fetchall()
            )
            if begin not in distance:
                return None
            here, steps = begin, []
            while here != end:
                rows = self._connection.execute(ONWARD, {"id": here, "types": _json_list(types)})
                kind, label, key, here = next(row for row in rows if distance.get(row[3]) == distance[here] - 1)
                steps.append(Step(EdgeType(kind), NodeId(label, key)))
        return Path(source, tuple(steps))

    def impact(
        self, node_id: NodeId, max_depth: int = MAX_LENGTH, types: Collection[EdgeType] = (), limit: int = 10_000
    ) -> list[Reached]:
        """Everything downstream; see GraphStore."""
        check_length(max_depth)
        check_limit(limit)
        with self._working():
            rows = self._connection.execute(
                IMPACT,
                {"id": self._number(node_id), "max_depth": max_depth, "types": _json_list(types), "limit": limit},
            ).fetchall()
        return [Reached(NodeId(label, key), depth) for label, key, depth in rows]

    def counts(self) -> GraphCounts:
        """Nodes by label, edges by type; see GraphStore."""
        with self._snapshot():
            nodes = self._connection.execute("SELECT label, count(*) FROM nodes GROUP BY label").fetchall()
            edges = self._connection.execute("SELECT type, count(*) FROM edges GROUP BY type").fetchall()
        return GraphCounts({Label(name): n for name, n in nodes}, {EdgeType(name): n for name, n in edges})

    def elements(self) -> Iterator[Node | Edge]:
        """Every node and edge, as of one moment; see GraphStore."""
        with self._snapshot():
            nodes = self._connection.execute("SELECT label, key, properties FROM nodes").fetchall()
            edges = self._connection.execute(
                "SELECT e.type, s.label, s.key, t.label, t.key, e.properties "
                "FROM edges e JOIN nodes s ON s.id = e.source JOIN nodes t ON t.id = e.target"
            ).fetchall()
        for label, key, properties in nodes:
            yield Node(NodeId(label, key), json.loads(properties))
        for kind, from_label, from_key, to_label, to_key, properties in edges:
            yield Edge(kind, NodeId(from_label, from_key), NodeId(to_label, to_key), json.loads(properties))

    def status(self) -> GraphStatus:
        """Nothing ever waits; see GraphStore."""
        return GraphStatus(place=str(self._path))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _ids(self, numbers: set[int]) -> dict[int, NodeId]:
        rows = self._connection.execute(
            "SELECT id, label, key FROM nodes WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(numbers)),),
        )
        return {number: NodeId(label, key) for number, label, key in rows}

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several reads that see the graph as of one moment."""
        with self._working():
            self._connection.execute("BEGIN")
            yield

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._lock:
            deadline = Deadline(self._timeout)
            try:
                self._connection.set_progress_handler(lambda: deadline.is_over, 10_000)
                yield
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                    raise GraphUnavailableError(
                        f"The graph {self._path} did not answer within {self._timeout:g} s. Ask for less, or raise "
                        "graph.timeout_seconds."
                    ) from error
                raise GraphUnavailableError(
                    f"The graph {self._path} cannot be used: {error}. Check the disk, and what else writes to it."
                ) from error
            finally:
                self._connection.set_progress_handler(None, 0)
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _columns(node_id: NodeId) -> tuple[str, str]:
    return node_id.label.value, node_id.key


def _json_list(types: Collection[EdgeType]) -> str:
    return json.dumps([each.value for each in types])
