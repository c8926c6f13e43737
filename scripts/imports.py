"""The import graph of the rooms: circles, sizes, and the diagrams of docs/architecture.md.

Read from the source with `ast`, so that imports inside functions and under TYPE_CHECKING count like all others. A
*sub-room* is a package below a room that holds no further package; files beside sub-rooms stand for themselves.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
ROOMS = ("api", "service", "workers", "finetune", "storage", "evaluation", "search_space", "ropewalk", "benchmarks")
PLACES = {"ropewalk": "sdk"}  # of rooms that are a distribution of their own: the folder that holds them
BEGIN, END = "<!-- begin: written by scripts/architecture -->", "<!-- end -->"

Graph = Mapping[str, frozenset[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the rooms by its dotted name."""
    found: dict[str, Path] = {}
    for room in ROOMS:
        home = root / PLACES.get(room, "")
        found |= {_name(path.relative_to(home)): path for path in sorted((home / room).rglob("*.py"))}
    return found


def _name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def file_graph(files: Mapping[str, Path]) -> Graph:
    """Which files each file imports, by module name."""
    return {name: frozenset(_imported(path, files)) - {name} for name, path in files.items()}


def _imported(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names if alias.name in files)
        elif isinstance(statement, ast.ImportFrom) and (module := statement.module or "") in files:
            names = (f"{module}.{alias.name}" for alias in statement.names)
            yield from (name if name in files else module for name in names)


def sub_rooms(files: Mapping[str, Path]) -> list[str]:
    """Packages below a room that hold no further package, sorted."""
    packages = {name for name, path in files.items() if path.name == "__init__.py"}
    parents = {name.rpartition(".")[0] for name in packages}
    return sorted(name for name in packages - parents if "." in name)


def grouped(graph: Graph, rooms: list[str]) -> Graph:
    """The graph with each sub-room as one node; packages that only hold others are left out."""
    inner = set(rooms)
    empty = {name.rpartition(".")[0] for name in rooms} & graph.keys()

    def node(name: str) -> str:
        package = name.rpartition(".")[0]
        return name if name in inner or package not in inner else package

    nodes: dict[str, set[str]] = {}
    for name in (name for name in graph if name not in empty or graph[name]):
        nodes.setdefault(node(name), set()).update(node(end) for end in graph[name])
    return {name: frozenset(ends - {name}) for name, ends in nodes.items()}


def reachable(graph: Graph, start: str) -> set[str]:
    """Everything that `start` imports, directly or not; `start` itself only when it is on a circle."""
    seen: set[str] = set()
    waiting = set(graph[start])
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= graph[name] - seen
    return seen


def on_circles(graph: Graph) -> list[str]:
    """The nodes that import themselves through others, sorted."""
    return sorted(name for name in graph if name in reachable(graph, name))


def within(graph: Graph, room: str) -> Graph:
    """The part of the graph inside one room."""
    return {n: frozenset(d for d in graph[n] if _room(d) == room) for n in graph if _room(n) == room}


def between_rooms(graph: Graph) -> Graph:
    """The graph with each room as one node; benchmarks, which nothing imports, are left out."""
    rooms = ROOMS[:-1]
    return {r: frozenset(_room(d) for n in graph if _room(n) == r for d in graph[n]) - {r} for r in rooms}


def _room(name: str) -> str:
    return name.partition(".")[0]


def diagram(graph: Graph) -> str:
    """Mermaid source of an acyclic graph. An arrow that follows from others is left out."""
    arrows = [(n, d) for n in sorted(graph) for d in sorted(graph[n]) if not _implied(graph, n, d)]
    nodes = [f'  {_key(name)}["{name.partition(".")[2] or name}"]' for name in sorted(graph)]
    return "\n".join(["```mermaid", "flowchart TD", *nodes, *(f"  {_key(n)} --> {_key(d)}" for n, d in arrows), "```"])


def _implied(graph: Graph, start: str, end: str) -> bool:
    return any(end in reachable(graph, other) for other in graph[start] - {end})


def _key(name: str) -> str:
    # A prefix, because names such as "end" are Mermaid's own words.
    return "m_" + name.replace(".", "_")


def page_section(files: Mapping[str, Path], graph: Graph) -> str:
    """What the page holds between its markers: a diagram of the rooms, then each room with its sub-rooms."""
    rooms = sub_rooms(files)
    groups = grouped(graph, rooms)
    parts = ["## The rooms", diagram(between_rooms(graph))]
    for room in ROOMS[:-1]:
        parts += [f"## {room}", summary(files[room]), diagram(within(groups, room)), *_table(files, rooms, room)]
    return "\n\n".join(parts)


def _table(files: Mapping[str, Path], rooms: list[str], room: str) -> list[str]:
    rows = [f"| `{name.partition('.')[2]}` | {summary(files[name])} |" for name in rooms if _room(name) == room]
    return ["\n".join(["| sub-room | what is in it |", "|---|---|", *rows])] if rows else []


def summary(path: Path) -> str:
    """The first line of a module's docstring, or nothing."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def written(page: str, section: str) -> str:
    """The page with `section` between its markers."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{rest.partition(END)[2]}"


def report(files: Mapping[str, Path], graph: Graph) -> str:
    """Circles, and for each room its files, the arrows between them, and both again with each sub-room as one."""
    groups = grouped(graph, sub_rooms(files))
    lines = [f"circles between files: {_counted(on_circles(graph))}"]
    lines += [
        f"circles between sub-rooms: {_counted(on_circles(groups))}",
        "",
        "room           files/arrows   sub-rooms/arrows",
    ]
    return "\n".join([*lines, *(f"{r:14} {_size(within(graph, r)):14} {_size(within(groups, r))}" for r in ROOMS)])


def _counted(names: list[str]) -> str:
    return f"{len(names)}" + (f" ({', '.join(names)})" if names else "")


def _size(graph: Graph) -> str:
    return f"{len(graph)}/{sum(len(ends) for ends in graph.values())}"


def main() -> int:
    """Print the report and write the page; 1 where there are circles, or with --check where the page is old."""
    parser = argparse.ArgumentParser(
        description="Circles of the import graph, and the diagrams of docs/architecture.md."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page would change")
    check = parser.parse_args().check
    files = modules()
    graph = file_graph(files)
    print(report(files, graph))
    old = PAGE.read_text()
    new = written(old, page_section(files, graph))
    if not check:
        PAGE.write_text(new)
    elif new != old:
        print(f"{PAGE.relative_to(ROOT)} is not what the imports say: run scripts/architecture", file=sys.stderr)
    return int(bool(on_circles(graph)) or (check and new != old))


if __name__ == "__main__":
    sys.exit(main())
