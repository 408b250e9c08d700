"""The delegation graph as a picture: where each node stands and how each line runs. Drawn by the server, shown without script.

What was used is a thick, whole line with a full arrowhead; what is merely allowed is thin and dashed, with an open one.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from app.oversight.graph import Column, Edge, Graph, Node
from app.web.text import plain

WIDTH, HEIGHT = 190, 46
"""Of a node."""

GAP, LANE = 22, 84
"""Between nodes of a column, and between columns."""

TOP, EDGE = 44, 16
NAME = 24
"""Letters of a name that fit; wide ones count twice."""


@dataclass(frozen=True, slots=True)
class Box:
    """A node where it stands."""

    x: int
    y: int
    name: str
    note: str
    kind: str
    full: str


@dataclass(frozen=True, slots=True)
class Line:
    """An edge as an SVG path."""

    path: str
    used: bool
    title: str


@dataclass(frozen=True, slots=True)
class Heading:
    """What a column is."""

    x: int
    words: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything a template needs to draw it."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    headings: tuple[Heading, ...]
    node_width: int = WIDTH
    node_height: int = HEIGHT


def picture(graph: Graph) -> Picture:
    """Lay a graph out: columns from left to right, each centred."""
    columns = [(column, graph.in_column(column)) for column in Column]
    shown = [(column, nodes) for column, nodes in columns if nodes]
    tallest = max((len(nodes) for _, nodes in shown), default=1)
    height = TOP + tallest * (HEIGHT + GAP) - GAP + EDGE
    place: dict[str, tuple[int, int]] = {}
    boxes: list[Box] = []
    headings = []
    for at, (column, nodes) in enumerate(shown):
        x = EDGE + at * (WIDTH + LANE)
        headings.append(Heading(x, column.value))
        start = TOP + (height - TOP - EDGE - (len(nodes) * (HEIGHT + GAP) - GAP)) // 2
        for row, node in enumerate(nodes):
            place[node.id] = x, start + row * (HEIGHT + GAP)
            boxes.append(_box(node, *place[node.id]))
    # The thin ones first, so that what was used lies on top.
    lines = tuple(_line(graph, edge, place, at) for at, edge in enumerate(sorted(graph.edges, key=lambda edge: edge.used)))
    width = 2 * EDGE + len(shown) * (WIDTH + LANE) - LANE
    return Picture(max(width, WIDTH), height, tuple(boxes), lines, tuple(headings))


def _box(node: Node, x: int, y: int) -> Box:
    kind = {Column.HUMANS: "human", Column.RESOURCES: "api"}.get(node.column, "agent")
    return Box(x, y, _fit(plain(node.name, 80)), node.note, kind, plain(node.name, 200))


def _line(graph: Graph, edge: Edge, place: dict[str, tuple[int, int]], at: int) -> Line:
    (x1, y1), (x2, y2) = place[edge.source], place[edge.target]
    half = HEIGHT // 2
    if x1 == x2:
        # Within a column: out to the right and back in.
        x, bend = x1 + WIDTH, LANE * 2 // 3
        path = f"M{x} {y1 + half + 6}C{x + bend} {y1 + half} {x + bend} {y2 + half} {x + 9} {y2 + half - 6}"
    elif x1 < x2:
        path = f"M{x1 + WIDTH} {y1 + half}" + _onward((x1 + WIDTH, y1 + half), (x2 - 9, y2 + half), place, at)
    else:
        start, end = x1, x2 + WIDTH + 9
        path = f"M{start} {y1 + half + 8}C{start - LANE // 2} {y1 + HEIGHT} {end + LANE // 2} {y2 + HEIGHT} {end} {y2 + half + 8}"
    said = "used" if edge.used else "allowed, never used"
    return Line(path, edge.used, f"{plain(graph.name(edge.source), 80)} to {plain(graph.name(edge.target), 80)}: {said}")


def _onward(start: tuple[int, int], end: tuple[int, int], place: dict[str, tuple[int, int]], at: int) -> str:
    """To the right, between the nodes of the columns in the way and never behind one."""
    (x, y), path = start, ""
    for column in sorted({left for left, _ in place.values() if start[0] < left < end[0] - WIDTH // 2}):
        tops = sorted(top for left, top in place.values() if left == column)
        straight = y + (end[1] - y) * (column + WIDTH // 2 - x) // (end[0] - x)
        through = _free(straight, tops, at)
        path += _curve((x, y), (column - 8, through)) + f"H{column + WIDTH + 8}"
        x, y = column + WIDTH + 8, through
    return path + _curve((x, y), end)


def _free(straight: int, tops: list[int], at: int) -> int:
    """Where to pass a column: straight on where nothing stands, else past the nearer side of the node in the way."""
    for top in tops:
        if top - GAP // 2 < straight < top + HEIGHT + GAP // 2:
            aside = at % 3 * 4
            above, below = top - GAP // 2 + 4 - aside, top + HEIGHT + GAP // 2 - 4 + aside
            return above if straight - top < HEIGHT // 2 else below
    return straight


def _curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = start, end
    bend = (x2 - x1) // 2
    return f"C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"


def _fit(name: str) -> str:
    room, kept = NAME, ""
    for char in name:
        room -= 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
        if room < 1:
            return kept.rstrip() + "…"
        kept += char
    return kept
