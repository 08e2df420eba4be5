"""Report sections about the repository: a map of its files, and the imports between its most used files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.errors import DatasetError
from git_starcoder.report.page import (
    FAINT,
    INK,
    LETTER_WIDTH,
    PAPER,
    SERIES,
    SPLIT_COLOURS,
    WIDE_CHART_WIDTH,
    Figure,
    ReportInput,
    Section,
    Table,
    chart,
    draw_svg,
    percent,
    shorten,
)
from git_starcoder.report.statistics import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TREEMAP_WIDTH, TREEMAP_HEIGHT = WIDE_CHART_WIDTH, 520
MIN_WEIGHT_SHARE = 0.0008
"""Files with a smaller share of the weight are too small to see. Those of one folder are drawn as one box."""
MAX_LISTED_FILES = 40
"""The number of files in the table below the map."""
HEADING_HEIGHT = 15
"""The height of a folder's name above its files, in SVG units."""
MIN_WIDTH_WITH_HEADING, MIN_HEIGHT_WITH_HEADING = 70, 60
"""Smaller folders have no name, because it would take too much of their area."""
MIN_LABEL_CHARACTERS = 6
"""A name is not written if fewer of its characters fit into its box."""
MAX_GRAPH_FILES = 28
"""The number of files in the import graph: arcs between more files could not be followed by eye."""
MAX_GRAPH_LABEL_CHARACTERS = 60
"""Longer paths are shortened, so that at least half of the graph is left for arcs."""


@dataclass(slots=True)
class TreeNode:
    """A folder or a file."""

    path: str
    weight: float = 0.0
    roles: Counter[str] = field(default_factory=Counter[str])
    """The weight of each role."""
    file_count: int = 0
    children: dict[str, TreeNode] = field(default_factory=dict[str, "TreeNode"])


@dataclass(frozen=True, slots=True)
class TreemapBox:
    """A rectangle of the map; x and y are its left upper corner."""

    x: float
    y: float
    width: float
    height: float
    node: TreeNode
    is_heading: bool = False
    """Whether the box only names the folder whose files are below it."""


def map_section(report_input: ReportInput) -> Section:
    """A squarified treemap (Bruls et al., 2000) of the training files, by weight and coloured by role."""
    train_files = report_input.statistics.train_files
    root = build_tree({path: (file.totals.weight, file.role) for path, file in train_files.items()})
    boxes = list(treemap_boxes(root)) if root.weight else []
    colours = {role: SERIES[index % len(SERIES)] for index, (role, _) in enumerate(root.roles.most_common())}
    tooltips = [
        f"{box.node.path}: {percent(box.node.weight, root.weight)} of the weight, "
        f"{box.node.file_count:,} file{'s' * (box.node.file_count != 1)}"
        for box in boxes
    ]
    folders = sorted(root.children.values(), key=lambda node: (-node.weight, node.path))[:8]
    shares = ", ".join(f"{node.path} {percent(node.weight, root.weight)}" for node in folders)
    svg = draw_svg(
        "tree", title := "Share of training weight", f"Largest top-level folders and files: {shares}",
        lambda figure: _draw_map(figure, boxes, colours), width=TREEMAP_WIDTH, height=TREEMAP_HEIGHT,
        tooltips=tooltips, automatic_layout=False,
    )  # fmt: skip
    files = sorted(train_files.items(), key=lambda item: (-item[1].totals.weight, item[0]))[:MAX_LISTED_FILES]
    rows = [
        (path, file.role, file.language, f"{file.totals.rows:,}", f"{file.totals.tokens:,}",
         percent(file.totals.weight, root.weight))
        for path, file in files
    ]  # fmt: skip
    header = ("file", "role", "language", "rows", "tokens", "share of weight")
    table = Table(f"The {len(rows)} heaviest of {len(train_files):,} training files", header, rows, text_columns=3)
    caption = "The area is the training weight. Point at a box to see its path. Small files of a folder share one box."
    return Section("Map of the repository", (), [Figure(svg, title, caption, table, wide=True)])


def build_tree(files: dict[str, tuple[float, str]]) -> TreeNode:
    """Builds the tree of folders from the weight and the role of each file, and returns its root."""
    root = TreeNode("")
    for path, (weight, role) in files.items():
        node = root
        parts = path.split("/")
        for depth in range(len(parts) + 1):
            if depth:
                node = node.children.setdefault(parts[depth - 1], TreeNode("/".join(parts[:depth])))
            node.weight += weight
            node.roles[role] += weight  # pyright: ignore[reportArgumentType] - a Counter of floats
            node.file_count += 1
    return root


def treemap_boxes(root: TreeNode) -> Iterator[TreemapBox]:
    """Boxes that fill the map, each with an area in proportion to its weight."""
    import squarify  # pyright: ignore[reportMissingTypeStubs]

    library = cast("Any", squarify)
    min_weight = MIN_WEIGHT_SHARE * root.weight
    open_boxes = [TreemapBox(0, 0, TREEMAP_WIDTH, TREEMAP_HEIGHT, root)]
    while open_boxes:
        box = open_boxes.pop()
        if not box.node.children or (box.node.weight < 4 * min_weight and box.node is not root):
            yield box
            continue
        if box.node is not root and box.width >= MIN_WIDTH_WITH_HEADING and box.height >= MIN_HEIGHT_WITH_HEADING:
            yield TreemapBox(box.x, box.y, box.width, HEADING_HEIGHT, box.node, is_heading=True)
            box = TreemapBox(box.x, box.y + HEADING_HEIGHT, box.width, box.height - HEADING_HEIGHT, box.node)
        nodes = [node for node in box.node.children.values() if node.weight >= min_weight]
        small_nodes = [node for node in box.node.children.values() if 0 < node.weight < min_weight]
        if small_nodes:
            rest = TreeNode(f"{box.node.path}/{len(small_nodes)} more".removeprefix("/"))
            for node in small_nodes:
                rest.weight, rest.file_count = rest.weight + node.weight, rest.file_count + node.file_count
                rest.roles.update(node.roles)
            nodes.append(rest)
        nodes.sort(key=lambda node: (-node.weight, node.path))
        sizes = library.normalize_sizes([node.weight for node in nodes], box.width, box.height)
        rectangles: list[dict[str, float]] = library.squarify(sizes, box.x, box.y, box.width, box.height)
        open_boxes += [
            TreemapBox(rectangle["x"], rectangle["y"], rectangle["dx"], rectangle["dy"], node)
            for rectangle, node in zip(rectangles, nodes, strict=True)
        ]


def _draw_map(figure: Any, boxes: list[TreemapBox], colours: dict[str, str]) -> None:
    from matplotlib.patches import Patch, Rectangle

    axes = figure.add_axes((0, 0, 1, 0.95))
    axes.set_xlim(0, TREEMAP_WIDTH)
    axes.set_ylim(TREEMAP_HEIGHT, 0)
    axes.axis("off")
    for index, box in enumerate(boxes):
        role = min(box.node.roles, key=lambda role: (-box.node.roles[role], role))
        colour = "none" if box.is_heading else colours[role]
        patch = Rectangle((box.x, box.y), box.width, box.height, facecolor=colour, edgecolor=PAPER, linewidth=1)
        patch.set_gid(f"tip-{index}")
        axes.add_patch(patch)
        name = box.node.path.rpartition("/")[2]
        max_characters = int((box.width - 6) / LETTER_WIDTH)
        if box.height >= HEADING_HEIGHT and max_characters >= min(len(name), MIN_LABEL_CHARACTERS):
            text, colour = shorten(name, max_characters), INK if box.is_heading else PAPER
            axes.text(box.x + 3, box.y + 2, text, color=colour, fontsize=11, va="top")
    handles = [Patch(facecolor=colour, label=shorten(role, 20)) for role, colour in colours.items()]
    figure.legend(handles=handles, loc="upper left", ncols=6)


def imports_section(report_input: ReportInput) -> Section | None:
    """An arc diagram (Wattenberg, 2002) of the most imported files: each arc leads from a file to one it imports."""
    imports: set[tuple[str, str]] = set()
    splits: dict[str, str] = {}
    for number, line in enumerate(read_json_lines(report_input.dataset, "imports.jsonl"), 1):
        try:
            importer, imported = str(line["from"]), str(line["to"])
            splits[importer], splits[imported] = str(line["from_split"]), str(line["to_split"])
        except KeyError as error:
            raise DatasetError(f"line {number} has no {error}", where="imports.jsonl") from error
        imports.add((importer, imported))
    if not imports:
        return None
    importer_counts = Counter(imported for _, imported in imports)
    import_counts = Counter(importer for importer, _ in imports)
    most_imported = sorted(importer_counts, key=lambda path: (-importer_counts[path], path))[:MAX_GRAPH_FILES]
    shown = set(most_imported)
    arcs = sorted(arc for arc in imports if shown.issuperset(arc) and arc[0] != arc[1])
    rows = [
        (path, splits[path], ", ".join(imported for importer, imported in arcs if importer == path),
         f"{importer_counts[path]:,}", f"{import_counts[path]:,}")
        for path in most_imported
    ]  # fmt: skip
    examples = ", ".join(f"{path} by {importer_counts[path]}" for path in most_imported[:5])
    figure = chart(
        "imports", f"The {len(shown)} most imported of {len(splits):,} files",
        f"{len(arcs)} imports among them. Most imported: {examples}",
        lambda figure: _draw_graph(figure, sorted(shown), arcs, importer_counts, splits),
        ("file", "split", "imports among these files", "imported by", "all imports"), rows, text_columns=3,
        wide=True, height=60 + 20 * len(shown), automatic_layout=False,
        caption="The area of a dot grows with the number of files that import it; its colour is its split. Arcs on the "
        "right lead from a file down to one that it imports; dashed arcs lead up.",
    )  # fmt: skip
    paragraph = f"{len(imports):,} imports were resolved to files of the repository."
    return Section("Import graph", [paragraph], [figure])


def _draw_graph(
    figure: Any, paths: Sequence[str], arcs: list[tuple[str, str]], importer_counts: Counter[str],
    splits: dict[str, str],
) -> None:  # fmt: skip
    from matplotlib.lines import Line2D
    from matplotlib.patches import Arc

    axes = figure.add_axes((0, 0, 1, 0.95))
    axes.axis("off")
    labels = [f"{shorten(path, MAX_GRAPH_LABEL_CHARACTERS)}  {importer_counts[path]}" for path in paths]
    line_of = {path: line for line, path in enumerate(paths)}
    max_span = max((abs(line_of[importer] - line_of[imported]) for importer, imported in arcs), default=1)
    label_width = LETTER_WIDTH * (max(map(len, labels)) + 2)
    axes.set_xlim(-label_width / (WIDE_CHART_WIDTH - label_width), 1)
    axes.set_ylim(len(paths) - 0.3, -0.7)
    for importer, imported in arcs:
        start, stop = line_of[importer], line_of[imported]
        height = abs(start - stop)
        arc = Arc(
            (0, (start + stop) / 2), 1.9 * height / max_span, height, theta1=-90, theta2=90, linewidth=1.1, alpha=0.8,
            color=SERIES[1] if stop > start else SERIES[3], linestyle="-" if stop > start else "--",
        )  # fmt: skip
        axes.add_patch(arc)
    max_count = max(importer_counts.values())
    for line, (path, text) in enumerate(zip(paths, labels, strict=True)):
        size = 3 + 10 * (importer_counts[path] / max_count) ** 0.5
        colour = SPLIT_COLOURS.get(splits[path], FAINT)
        axes.plot([0], [line], "o", color=colour, markersize=size, markeredgewidth=0)
        axes.text(-0.02, line, text, ha="right", va="center", fontsize=11)
    dot: dict[str, Any] = {"marker": "o", "linestyle": ""}
    handles = [Line2D([], [], color=colour, label=split, **dot) for split, colour in SPLIT_COLOURS.items()]
    handles.append(Line2D([], [], color=SERIES[1], label="down"))
    handles.append(Line2D([], [], color=SERIES[3], linestyle="--", label="up"))
    figure.legend(handles=handles, loc="upper right", ncols=5)
