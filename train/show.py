"""Pictures of EEGs: what a neurologist sees, what a model sees, what training makes of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from common.config import Experiment, Stage, load_experiment
from common.features import Windows, build_input, constants_wanted, measure_constants, with_constants
from common.files import write_via
from common.schema import PATTERNS, SFREQ, VOTES, WINDOW_SECONDS
from train.augment import draw_shifts, mirror_some
from train.show_find import (
    Found,
    Recordings,
    ShowError,
    find,
    predicted_shares,
    read_recordings,
    read_tables,
    true_shares,
)
from train.show_pages import Drawing, Portrait, augmented_figure, drawing_of, eeg_figure, inputs_figure

DRAWS = 3  # of each stage
CONFIGS = Path(__file__).parent / "configs"


def heading(found: Found) -> tuple[str, list[str]]:
    """The title, and of a train EEG which label row this is."""
    title = f"EEG {found.eeg_id}, patient {found.patient_id}"
    if found.label is None:
        return title + ", test set", []
    votes = ", ".join(f"{pattern} {found.label[f'{pattern}_vote']}" for pattern in PATTERNS)
    start = found.label["eeg_start"] / SFREQ
    which = f"Label {found.label['label_id']}: {found.label['total_votes']} votes ({votes})"
    return f"{title}: {found.label['expert_consensus']}", [
        f"{which}; seconds {start:g} to {start + WINDOW_SECONDS:g} of the file"
    ]


# ---- inputs


def distinct_inputs(experiments: Sequence[Experiment]) -> dict[Any, list[Experiment]]:
    """Experiments by what they look at, in their order."""
    by_input: dict[Any, list[Experiment]] = {}
    for experiment in experiments:
        by_input.setdefault(experiment.input, []).append(experiment)
    return by_input


def with_own_constants(experiment: Experiment, windows: Windows) -> tuple[Any, str]:
    """Its input config, and its name. Constants of training rows are a run's: here they are this window's own, and the
    name says so. Raises ShowError when the window has nothing to measure."""
    if not constants_wanted(experiment.input):
        return experiment.input, experiment.name
    try:
        constants = measure_constants(experiment.input, [windows])
    except ValueError as error:
        raise ShowError(f"{experiment.name}: {error}; leave this config out with --config") from error
    return with_constants(experiment.input, constants), f"{experiment.name} (constants measured on this window alone)"


def built(windows: Windows, config: Any, name: str) -> np.ndarray:
    """The input of a batch of one. Raises ShowError when the config's parts do not fit each other."""
    try:
        return build_input(windows, config)[0].numpy()
    except ValueError as error:
        raise ShowError(f"{name}: {error}") from error


def input_drawings(windows: Windows, experiments: Sequence[Experiment]) -> list[Drawing]:
    """Each distinct input of a batch of one."""
    drawings = []
    for users in distinct_inputs(experiments).values():
        config, name = with_own_constants(users[0], windows)
        name = " and ".join([name, *(user.name for user in users[1:])])
        drawings.append(drawing_of(name, built(windows, config, name), config))
    return drawings


def altered(recordings: Recordings, stage: Stage, seed: int) -> list[tuple[str, Windows]]:
    """DRAWS windows as training would see them in a stage, and what was drawn for each; `seed` draws the same again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shifts = draw_shifts(DRAWS, stage.shift)
        seconds = [0.0] * DRAWS if shifts is None else shifts.tolist()
        plain = [recordings.window(shift) for shift in seconds]
        batch = Windows(*(torch.cat([getattr(w, kind) for w in plain]) for kind in ("eeg", "spectrogram")))
        seen = mirror_some(batch, stage.mirror)
    made = []
    for k, shift in enumerate(seconds):
        one = Windows(*(getattr(seen, kind)[k : k + 1] for kind in ("eeg", "spectrogram")))
        mirrored = not torch.equal(one.eeg.nan_to_num(), batch.eeg[k : k + 1].nan_to_num())
        what = ([f"{shift:+.1f} s"] if stage.shift else []) + (["mirrored"] if mirrored else [])
        made.append((", ".join(what) or "as it is", one))
    return made


def augmented_rows(recordings: Recordings, experiments: Sequence[Experiment]) -> list[list[Drawing]]:
    """For each experiment and stage: the input unaltered, then as training sees it."""
    rows, plain = [], recordings.window()
    for experiment in experiments:
        config, name = with_own_constants(experiment, plain)
        unaltered = drawing_of(f"{name}, unaltered", built(plain, config, name), config)
        for number, stage in enumerate(experiment.training.stages, start=1):
            row = [unaltered]
            for what, windows in altered(recordings, stage, number) if stage.mirror or stage.shift else ():
                row.append(Drawing(f"stage {number}: {what}", built(windows, config, name), config))
            if len(row) > 1:
                rows.append(row)
    return rows


# ---- the command


def save(figure: Figure, path: Path) -> None:
    """A PNG, by rename; says where. No metadata, so that the same picture has the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_via(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))
    print(f"wrote {path}")


def portrait_of(competition: Path, found: Found, recordings: Recordings, runs: Sequence[Path]) -> Portrait:
    title, remarks = heading(found)
    window = recordings.window()
    assert window.eeg is not None and window.spectrogram is not None
    return Portrait(
        title=title,
        remarks=(*remarks, *recordings.remarks),
        eeg=window.eeg[0].numpy(),
        spectrogram=window.spectrogram[0].numpy(),
        rebuilt=recordings.spectrogram is None,
        votes=np.array([found.label[vote] for vote in VOTES]) if found.label else None,
        shares=predicted_shares(runs, found) | true_shares(competition, found),
    )


def show(
    eeg_ids: Sequence[int],
    competition: Path,
    out: Path,
    split: str | None = None,
    configs: Sequence[Path] = (),
    runs: Sequence[Path] = (),
    label_id: int | None = None,
    augmented: bool = False,
) -> None:
    """Write the pictures of each EEG to `out`. Raises ShowError, ConfigError, RunError, LabelError, RecordingError."""
    if label_id is not None and len(eeg_ids) > 1:
        raise ShowError(f"--label {label_id} belongs to one EEG; {len(eeg_ids)} were given: show that one alone")
    experiments = [load_experiment(path) for path in configs or sorted(CONFIGS.glob("*.toml"))]
    tables = read_tables(competition, split)
    everything = [find(competition, tables, eeg_id, label_id) for eeg_id in eeg_ids]
    for found in everything:
        recordings = read_recordings(competition, found)
        portrait = portrait_of(competition, found, recordings, runs)
        drawings = input_drawings(recordings.window(), experiments)  # before anything is written: it may refuse
        rows = augmented_rows(recordings, experiments) if augmented else []
        save(eeg_figure(portrait), out / f"{found.eeg_id}-eeg.png")
        save(inputs_figure(portrait.title, portrait.remarks, drawings), out / f"{found.eeg_id}-inputs.png")
        if rows:
            save(augmented_figure(portrait.title, portrait.remarks, rows), out / f"{found.eeg_id}-augmented.png")
        elif augmented:
            print(f"EEG {found.eeg_id}: no stage of {', '.join(e.name for e in experiments)} alters its windows")
