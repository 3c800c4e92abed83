"""Pictures of EEGs: what a neurologist sees, what a model sees, what training makes of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from common.files import write_via
from common.schema import PATTERNS, SFREQ, VOTES, WINDOW_SECONDS
from train.engine.run_folder import read_run
from train.experiment import load_experiment
from train.plots.augmented import augmented_rows, example_of
from train.plots.find import Found, ShowError, find, predicted_shares, read_recordings, read_tables, true_shares
from train.plots.model_inputs import input_drawings
from train.plots.pages import eeg_figure, inputs_figure

CONFIGS = Path(__file__).parents[1] / "configs"


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


# ---- the command


def save(figure: Figure, path: Path) -> None:
    """A PNG, by rename; says where. No metadata, so that the same picture has the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_via(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))
    print(f"wrote {path}")


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
    experiments = [load_experiment(path) for path in configs] or [read_run(run) for run in runs]
    experiments = experiments or [load_experiment(path) for path in sorted(CONFIGS.glob("*.toml"))]
    tables = read_tables(competition, split)
    everything = [find(competition, tables, eeg_id, label_id) for eeg_id in eeg_ids]
    for found in everything:
        recordings = read_recordings(competition, found)
        title, remarks = heading(found)
        remarks += recordings.remarks
        votes = np.array([found.label[vote] for vote in VOTES]) if found.label else None
        shares = predicted_shares(runs, found) | true_shares(competition, found)
        inputs = input_drawings(recordings.window(), experiments)  # before anything is written: it may refuse
        rows = augmented_rows(example_of(competition, tables, found, recordings), experiments) if augmented else []
        save(eeg_figure(title, remarks, recordings, votes, shares), out / f"{found.eeg_id}-eeg.png")
        pairs = [inputs[first : first + 2] for first in range(0, len(inputs), 2)]
        save(inputs_figure(title, remarks, pairs), out / f"{found.eeg_id}-inputs.png")
        if rows:
            figure = inputs_figure(title, remarks, rows, same_colours=True)
            save(figure, out / f"{found.eeg_id}-augmented.png")
        elif augmented:
            print(f"EEG {found.eeg_id}: no stage of {', '.join(e.name for e in experiments)} alters its windows")
