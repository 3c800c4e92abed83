"""The pictures of docs/, from simulated EEG.

    python docs/make_pictures.py                            simulates a competition first, in about a minute
    python docs/make_pictures.py --competition DIR          the one that `simulate DIR --patients 24 --seed 3` made

docs/inputs.md is read for its snippets: each [input] table is built and drawn into the picture below it.
"""

import argparse
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import TypeAdapter

from common.inputs.base import Windows
from common.inputs.build import build_input
from common.inputs.config import InputConfig
from common.schema import CONSENSUS, PATTERNS
from train.plots.find import Recordings, find, read_recordings, read_tables
from train.plots.pages import COLUMN, INPUT_HEIGHT, Drawing, draw_one, labelled_figure
from train.plots.style import DPI, INK, LEFT, RIGHT, colours, in_few_colours, new_figure, shades
from train.simulate.files import simulate_competition

DOCS = Path(__file__).resolve().parent
PATIENTS, SEED = 24, 3  # of the simulation that these EEGs are in
PAGES = dict(zip(PATTERNS, (3052791787, 3064383753, 4030181995, 3802714582, 3943202378, 3654412443), strict=True))
SNIPPET = re.compile(r"```toml\n(?P<toml>.*?)```\n!\[(?P<shape>[\dx ]+)\]\((?P<path>\S+)\)", re.DOTALL)


def snippets() -> list[tuple[Any, str, Path]]:
    """Input config, shape as written, picture: of every snippet of docs/inputs.md."""
    adapter: TypeAdapter[Any] = TypeAdapter(InputConfig)
    text = (DOCS / "inputs.md").read_text(encoding="utf-8")
    return [
        (adapter.validate_python(tomllib.loads(found["toml"])["input"]), found["shape"], DOCS / found["path"])
        for found in SNIPPET.finditer(text)
    ]


# Of all pictures: a third of the file, and the eye sees none of it.
PALETTE = [
    *(shade for ink in (INK, LEFT, RIGHT) for shade in shades(ink, 16)),
    *colours()(np.linspace(0, 1, 64))[:, :3],
]


def save_small(figure: Figure, path: Path) -> None:
    """A PNG in the nearest colours of the palette; says its size."""
    path.parent.mkdir(exist_ok=True)
    in_few_colours(figure, DPI, PALETTE).save(path, optimize=True)
    print(f"{path.relative_to(DOCS)}: {path.stat().st_size / 1000:.0f} kB")


def recordings_of(competition: Path, eeg_id: int) -> Recordings:
    return read_recordings(competition, find(competition, read_tables(competition, "train"), eeg_id, None))


def draw_pages(competition: Path) -> None:
    for title, (pattern, eeg_id) in zip(CONSENSUS, PAGES.items(), strict=True):
        eeg, _ = recordings_of(competition, eeg_id).window_arrays()
        save_small(labelled_figure(eeg, f"Simulated EEG: {title}"), DOCS / "patterns" / f"{pattern}.png")


def draw_inputs(windows: Windows) -> None:
    for config, _, path in snippets():
        figure = new_figure(COLUMN + 4, INPUT_HEIGHT + 18)
        drawing = Drawing("", build_input(windows, config)[0].numpy(), config)
        draw_one(figure, drawing, 20, 4, None)
        save_small(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--competition", type=Path, metavar="DIR", help="that simulation, when it is there already")
    given = parser.parse_args().competition
    with tempfile.TemporaryDirectory() as temporary:
        competition = given or Path(temporary) / "competition"
        if given is None:
            simulate_competition(competition, PATIENTS, SEED)
        draw_pages(competition)
        draw_inputs(recordings_of(competition, PAGES["seizure"]).window())


if __name__ == "__main__":
    main()
