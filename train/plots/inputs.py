"""Model inputs as pictures, with axes in Hz and seconds. For people only."""

import math
from typing import Any

import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.image import AxesImage

from common.inputs.base import SequenceAxes
from common.schema import CHAINS, WINDOW_SECONDS
from train.plots.layouts import Layout, Panel, column_groups, layout_of
from train.plots.style import FAINT, GRID, INK, LEFT, MIDDLE, MM_PER_INCH, RIGHT, SMALL, colours, robust_limits

GAP = 0.04  # between the channels of a deep image, of a channel's height
TINY = 5.5  # points
HERTZ_STEPS = ((5, 10, 15, 20, 30, 40), (1, 2, 5, 10, 20, 40), (10, 20, 40), (10,))
SECOND_STEPS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 300)
HALO = [matplotlib.patheffects.withStroke(linewidth=1.5, foreground="#00000090")]


def millimetres(axes: Axes) -> tuple[float, float]:
    """Height and width of axes on paper."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    width, height = figure.get_size_inches() * MM_PER_INCH
    return axes.get_position().height * height, axes.get_position().width * width


class Sheet:
    """Paper coordinates of an image: pixels downwards and to the right, the channels of a deep one laid out on it,
    and each panel turned over, so that frequencies rise upwards."""

    def __init__(self, layout: Layout, axes: Axes) -> None:
        self.shown = max(panel.channel for panel in layout.panels) + 1
        tall, wide = millimetres(axes)
        shape = layout.height / tall * wide / layout.width
        self.across = min(self.shown, max(1, round(math.sqrt(self.shown * shape))))
        self.gap = GAP * layout.height if self.shown > 1 else 0.0
        self.layout = layout
        rows = -(-self.shown // self.across)
        self.height = rows * layout.height + (rows - 1) * self.gap
        self.width = self.across * layout.width + (self.across - 1) * self.gap
        self.mm = (tall / self.height, wide / self.width)  # per pixel

    def corner(self, panel: Panel) -> tuple[float, float]:
        """Top and left edge of the panel's channel."""
        row, column = divmod(panel.channel, self.across)
        return row * (self.layout.height + self.gap), column * (self.layout.width + self.gap)

    def box(self, panel: Panel) -> tuple[float, float, float, float]:
        """Left, right, top and bottom edge."""
        down, right = self.corner(panel)
        top, left = down + panel.top, right + panel.left
        return left, left + panel.width, top, top + panel.height

    def y(self, panel: Panel, hertz: float) -> float:
        """Where a frequency is drawn."""
        return self.box(panel)[3] - (panel.row(hertz) - panel.top)

    def x(self, panel: Panel, second: float) -> float:
        return self.corner(panel)[1] + panel.column(second)


def hertz_ticks(panel: Panel, mm_per_row: float) -> list[float]:
    """As many round frequencies as have room for a label each, away from the panel's edges."""
    if not panel.hertz or panel.height * mm_per_row < 3.5:
        return []
    most: list[float] = []
    for steps in HERTZ_STEPS:
        inside = [hertz for hertz in steps if max(panel.hertz[0], 0.0) <= hertz <= panel.hertz[-1]]
        places = {hertz: (panel.row(hertz) - panel.top) * mm_per_row for hertz in inside}
        chosen = [hertz for hertz in inside if 1.2 <= places[hertz] <= panel.height * mm_per_row - 1.2]
        if len(chosen) > len(most) and np.diff([places[hertz] for hertz in chosen]).min(initial=9) >= 2.6:
            most = [float(hertz) for hertz in chosen]
    return most


def second_ticks(panel: Panel, mm_per_column: float) -> list[float]:
    """Round seconds at least 13 mm apart that keep away from the next panel's first label."""
    first, last = panel.seconds
    per_second = panel.width * mm_per_column / (last - first)
    step = next((s for s in SECOND_STEPS if s * per_second >= 13), SECOND_STEPS[-1])
    ticks = np.arange(math.ceil(first / step - 0.1), math.floor(last / step + 1e-6) + 1) * step
    return [float(tick) for tick in ticks if (last - tick) * per_second >= 5 or len(ticks) == 1]


def label_panel(axes: Axes, panel: Panel, sheet: Sheet) -> bool:
    """The panel's name on it; False when there is no room."""
    left, _, top, _ = sheet.box(panel)
    tall, wide = panel.height * sheet.mm[0], panel.width * sheet.mm[1]
    if tall < 3.2 or wide < 1.3 * len(panel.name) + 1 or not panel.hertz:
        return False
    size = TINY if tall < 9 or wide < 20 else SMALL
    axes.text(
        left + 0.8 / sheet.mm[1], top + 0.5 / sheet.mm[0], panel.name, ha="left", va="top", fontsize=size,
        color="white", path_effects=HALO, fontweight="bold",
    )  # fmt: skip
    return True


def write_inside(axes: Axes, x: float, y: float, text: str, align: tuple[str, str]) -> None:
    """A tick's label on the image, where an edge has no room for it."""
    style: dict[str, Any] = {"fontsize": TINY, "color": "white", "path_effects": HALO}
    axes.text(x, y, text, ha=align[0], va=align[1], **style)


def draw_seconds(axes: Axes, sheet: Sheet) -> None:
    """Seconds under each column of panels, and inside it where they change further down."""
    ticks: list[tuple[float, str]] = []
    for group in column_groups(sheet.layout.panels):
        for panel, below in zip(group, [*group[1:], None], strict=True):
            left, right, _, bottom = sheet.box(panel)
            found = [(sheet.x(panel, second), f"{second:g}") for second in second_ticks(panel, sheet.mm[1])]
            if bottom > sheet.height - 0.5:
                ticks += found
            elif below is not None and below.seconds != panel.seconds:
                axes.plot([left, right], [bottom, bottom], color=INK, linewidth=0.8)
                for x, text in found:
                    write_inside(axes, x, bottom, text, ("center", "bottom"))
    axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks])
    axes.set_xlabel("time (s)", fontsize=SMALL, labelpad=1)


def draw_hertz(axes: Axes, sheet: Sheet) -> None:
    """Names and Hz of the panels at the left edge; inside a panel that has other frequencies than its neighbour."""
    ticks: list[tuple[float, str]] = []
    last_name = -9.0
    before: tuple[int, float, tuple[float, ...]] = (-1, -1.0, ())
    for panel in sorted(sheet.layout.panels, key=lambda panel: (panel.channel, panel.top, panel.left)):
        left, _, top, bottom = sheet.box(panel)
        named = label_panel(axes, panel, sheet)
        places = [(sheet.y(panel, hertz), f"{hertz:g}") for hertz in hertz_ticks(panel, sheet.mm[0])]
        if left == 0:
            ticks += places
            middle = (top + bottom) / 2
            if not named and (middle - last_name) * sheet.mm[0] >= 2.2:
                ticks.append((middle, panel.name))
                last_name = middle
        elif before[:2] == (panel.channel, panel.top) and before[2] != panel.hertz:
            for y, text in places:
                write_inside(axes, left + 0.6 / sheet.mm[1], y, text, ("left", "center"))
        before = (panel.channel, panel.top, panel.hertz)
    axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
    if any(panel.height * sheet.mm[0] < 3 for panel in sheet.layout.panels):
        axes.tick_params(axis="y", labelsize=TINY)
    axes.set_ylabel(y_label(sheet.layout), fontsize=SMALL, labelpad=2)


def y_label(layout: Layout) -> str:
    """What the rows are: the band that all panels share, or what the notes say."""
    bands = {(max(panel.hertz[0], 0.0), panel.hertz[-1]) for panel in layout.panels if panel.hertz}
    band = "".join(f", each {low:.1f} to {high:.1f}" for low, high in bands) if len(bands) == 1 else ""
    notes = list(dict.fromkeys(panel.note for panel in layout.panels if panel.note))
    return "\n".join([f"frequency (Hz){band}"] * bool(bands) + notes)


def colour_limits(image: np.ndarray, layout: Layout) -> tuple[float, float]:
    """Robust; for waves the same on both sides of 0."""
    if any(panel.hertz for panel in layout.panels):
        return robust_limits(image)
    most = max(float(np.percentile(np.abs(image), 98)), 1e-6)
    return -most, most


def draw_image(
    axes: Axes, image: np.ndarray, config: Any, limits: tuple[float, float] | None = None
) -> tuple[Sheet, AxesImage]:
    """A model input (channels, height, width) panel by panel. limits: of the colours (default: robust)."""
    sheet = Sheet(layout_of(config), axes)
    low, high = limits or colour_limits(image, sheet.layout)
    shown = None
    axes.set_facecolor("white")
    for panel in sheet.layout.panels:
        rows = slice(round(panel.top), round(panel.top + panel.height))
        columns = slice(round(panel.left), round(panel.left + panel.width))
        left, right, top, bottom = sheet.box(panel)
        shown = axes.imshow(
            image[panel.channel, rows, columns], extent=(left, right, bottom, top), cmap=colours(), vmin=low, vmax=high,
            origin="lower" if panel.hertz else "upper", aspect="auto", interpolation="nearest",
        )  # fmt: skip
        axes.plot([left, right, right], [bottom, bottom, top], color="white", linewidth=0.5)
    assert shown is not None
    axes.set_xlim(0, sheet.width)
    axes.set_ylim(sheet.height, 0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    draw_hertz(axes, sheet)
    draw_seconds(axes, sheet)
    return sheet, shown


# ---- sequences


def side_colour(name: str) -> str:
    """Blue left, red right, as on the page; the midline black."""
    electrodes = set(name.split("-"))
    if electrodes <= {*CHAINS["LL"], *CHAINS["LP"]}:
        return LEFT
    return RIGHT if electrodes <= {*CHAINS["RL"], *CHAINS["RP"]} else MIDDLE


def draw_sequence(axes: Axes, sequence: np.ndarray, shown: SequenceAxes) -> None:
    """A model input (channels, time): the differences as traces, negative up; their quality as numbers behind."""
    names = shown.names
    waves = sequence[: len(names)]
    lane = max(3 * float(np.percentile(np.abs(waves), 95)), 1e-3)
    seconds = np.arange(waves.shape[-1]) / shown.sfreq
    depth = np.arange(len(names))[:, None] + np.clip(waves / lane, -0.95, 0.95)
    lines = [np.column_stack([seconds, line]) for line in depth]
    axes.add_collection(LineCollection(lines, colors=[side_colour(name) for name in names], linewidths=0.4))
    axes.set_xlim(0, WINDOW_SECONDS)
    axes.set_ylim(len(names) - 0.2, -0.8)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelsize=TINY if millimetres(axes)[0] < 60 else SMALL)
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel("time (s)", fontsize=SMALL, labelpad=1)
    axes.set_ylabel(
        f"lanes {lane:.2g} apart = {lane * shown.microvolts:.0f} \u00b5V, negative up", fontsize=SMALL, labelpad=2
    )
    if shown.quality:
        draw_quality(axes, sequence[len(names) :, 0].reshape(3, len(names)))


def draw_quality(axes: Axes, shares: np.ndarray) -> None:
    """Missing, flat and clipped share of each difference, (3, differences), right of its trace."""
    where: dict[str, Any] = dict(transform=axes.get_yaxis_transform(), clip_on=False, fontsize=TINY, va="center")
    for column, (name, values) in enumerate(zip(("missing", "flat", "clipped"), shares, strict=True)):
        x = 1.03 + 0.055 * column
        axes.text(x, -1.2, name, ha="center", color=FAINT, **where)
        for lane, value in enumerate(values):
            axes.text(x, lane, f"{100 * value:.0f} %", ha="center", color=INK if value else FAINT, **where)


def draw_input(axes: Axes, values: np.ndarray, config: Any, limits: tuple[float, float] | None = None) -> Any:
    """Any model input of one window; gives what a colour bar needs, None for a sequence."""
    shown = config.axes()
    if isinstance(shown, SequenceAxes):
        draw_sequence(axes, values, shown)
        return None
    return draw_image(axes, values, config, limits)[1]
