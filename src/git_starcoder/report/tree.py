"""The repository's map: every file and folder as large as its share of what is learned."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.errors import MissingExtraError
from git_starcoder.report.parts import Figure, Section, Subject, Table, share
from git_starcoder.report.plot import INK, PAPER, SERIES, WIDTH, label, svg

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDE, HIGH = 2 * WIDTH, 520
LEAST = 0.0008
"""Share of the picture below which a folder is not opened, and files of a folder are drawn together."""
LISTED = 40
"""Files in the table."""
LETTER = 6.6
"""Units that a letter of a label is wide."""
STRIP = 15
"""Units that the name of a folder is high."""
ROOM = 70, 60
"""Width and height from which on a folder has its name above it."""
FEWEST = 6
"""Letters of a name that are worth writing if they are not all."""


@dataclass(slots=True)
class Node:
    """A folder or a file."""

    path: str
    weight: float = 0.0
    roles: Counter[str] = field(default_factory=Counter[str])
    files: int = 0
    below: dict[str, Node] = field(default_factory=dict[str, "Node"])


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, bottom, width, height."""

    x: float
    y: float
    dx: float
    dy: float
    node: Node
    heading: bool = False
    """Whether it only names the folder whose files are below it."""


def section(subject: Subject) -> Section:
    """A squarified treemap (Bruls et al., 2000) by weight, coloured by role."""
    root = grown({path: (file.amount.weight, file.role) for path, file in subject.tally.files.items()})
    boxes = list(laid(root)) if root.weight else []
    roles = [role for role, _ in root.roles.most_common()]
    colours = {role: SERIES[at % len(SERIES)] for at, role in enumerate(roles)}
    tips = [
        f"{box.node.path}: {share(box.node.weight, root.weight)} of the weight, {box.node.files:,} files"
        for box in boxes
    ]
    files = sorted(subject.tally.files.items(), key=lambda item: (-item[1].amount.weight, item[0]))
    rows = [
        (path, file.role, file.language, f"{file.amount.rows:,}", f"{file.amount.tokens:,}",
         share(file.amount.weight, root.weight))
        for path, file in files[:LISTED]
    ]  # fmt: skip
    title = "Share of training weight"
    table = Table(
        f"The {len(rows)} heaviest of {len(files):,} files",
        ("file", "role", "language", "rows", "tokens", "share of weight"), rows, left=3,
    )  # fmt: skip
    folders = sorted(root.below.values(), key=lambda node: (-node.weight, node.path))[:8]
    about = "Heaviest at the top: " + ", ".join(f"{node.path} {share(node.weight, root.weight)}" for node in folders)
    picture = svg(
        "tree",
        title,
        about,
        lambda figure: _paint(figure, boxes, colours),
        width=WIDE,
        height=HIGH,
        tips=tips,
        laid=False,
    )
    caption = "Point at a rectangle for its path. Folders have their name above them; small files are drawn as one."
    return Section("Map of the repository", [], [Figure(picture, title, caption, table, wide=True)])


def grown(files: dict[str, tuple[float, str]]) -> Node:
    """The tree of files with their weights and roles."""
    root = Node("")
    for path, (weight, role) in files.items():
        at = root
        parts = path.split("/")
        for depth in range(len(parts) + 1):
            if depth:
                at = at.below.setdefault(parts[depth - 1], Node("/".join(parts[:depth])))
            at.weight += weight
            at.roles[role] += weight  # pyright: ignore[reportArgumentType] - a Counter of shares
            at.files += 1
    return root


def laid(root: Node) -> Iterator[Box]:
    """Rectangles that fill the picture, each as large as its weight; nothing below `LEAST` by itself."""
    least = LEAST * root.weight
    open_boxes = [Box(0, 0, WIDE, HIGH, root)]
    while open_boxes:
        box = open_boxes.pop()
        if not box.node.below or (box.node.weight < 4 * least and box.node is not root):
            yield box
            continue
        if box.node is not root and box.dx >= ROOM[0] and box.dy >= ROOM[1]:
            yield Box(box.x, box.y, box.dx, STRIP, box.node, heading=True)
            box = Box(box.x, box.y + STRIP, box.dx, box.dy - STRIP, box.node)
        large = [node for node in box.node.below.values() if node.weight >= least]
        small = [node for node in box.node.below.values() if 0 < node.weight < least]
        if small:
            rest = Node(f"{box.node.path}/{len(small)} more".removeprefix("/"))
            for node in small:
                rest.weight, rest.files = rest.weight + node.weight, rest.files + node.files
                rest.roles.update(node.roles)
            large.append(rest)
        large.sort(key=lambda node: (-node.weight, node.path))
        open_boxes += _within(box, large)


def _within(box: Box, nodes: list[Node]) -> list[Box]:
    try:
        import squarify  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "squarify", "report") from error
    library = cast("Any", squarify)
    sizes = library.normalize_sizes([node.weight for node in nodes], box.dx, box.dy)
    found: list[dict[str, float]] = library.squarify(sizes, box.x, box.y, box.dx, box.dy)
    return [Box(at["x"], at["y"], at["dx"], at["dy"], node) for at, node in zip(found, nodes, strict=True)]


def _paint(figure: Any, boxes: list[Box], colours: dict[str, str]) -> None:
    from matplotlib.patches import Patch, Rectangle

    axes = figure.add_axes((0, 0, 1, 0.95))
    axes.set_xlim(0, WIDE)
    axes.set_ylim(HIGH, 0)
    axes.axis("off")
    for at, box in enumerate(boxes):
        role = min(box.node.roles, key=lambda role: (-box.node.roles[role], role))
        colour = "none" if box.heading else colours[role]
        patch = Rectangle((box.x, box.y), box.dx, box.dy, facecolor=colour, edgecolor=PAPER, linewidth=1)
        patch.set_gid(f"tip-{at}")
        axes.add_patch(patch)
        letters = int((box.dx - 6) / LETTER)
        name = box.node.path.rpartition("/")[2]
        if box.dy >= STRIP and letters >= min(len(name), FEWEST):
            axes.text(
                box.x + 3, box.y + 2, label(name, letters), color=INK if box.heading else PAPER, fontsize=11, va="top"
            )
    handles = [Patch(facecolor=colour, label=label(role, 20)) for role, colour in colours.items()]
    figure.legend(handles=handles, loc="upper left", ncols=6)
