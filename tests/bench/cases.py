"""The rows P1 to P7: a reference, what the kit does for the same thing, and the least work it takes."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import references
import torch
from measure import LOGARITHM, Work
from samples import Samples

from common.inputs.base import Windows
from common.inputs.build import build_input
from common.inputs.config import BipolarSequence, EegMelImage, KaggleImage
from common.inputs.panels import percentiles
from common.parallel import read_ahead
from common.records import central, read_eeg, read_spectrogram
from common.schema import SFREQ, TRAIN_EEGS, WINDOW_SAMPLES
from common.signal.spectrogram import competition_spectrogram
from train.data.recording_kinds import EEGS
from train.data.store import RecordingStore
from train.simulate.processes import ONE_THREAD, environment
from train.simulate.recording_files import write_eeg

IMAGE_BOUND, SIGNAL_BOUND = 2e-5, 1e-5  # image units; share of the value
MEL, KAGGLE, SEQUENCE = EegMelImage(), KaggleImage(), BipolarSequence(phase="causal")
MEL_PIXELS = 4 * 128 * 256
READ_AHEAD = 4
AT_ONCE = 8  # windows of a batch
STORED, STORED_SECONDS, BATCH = 24, 60, 32  # recordings, of 60 s each, and windows taken from them


@dataclass(frozen=True)
class Case:
    """One row. Both functions return arrays of one shape; times are divided by `items`."""

    id: str
    what: str
    reach: float  # the ratio aimed at
    cores: int
    reference: Callable[[], Any]
    ours: Callable[[], Any]
    error: Callable[[Any, Any], float]
    bound: float
    work: Work  # of one item
    items: int = 1
    threads: int | None = None  # of each process or reading thread; None: as many as cores


def largest_difference(reference: Any, ours: Any) -> float:
    return float(np.abs(np.asarray(reference, dtype=np.float64) - np.asarray(ours, dtype=np.float64)).max())


def share_of_largest(reference: Any, ours: Any) -> float:
    return largest_difference(reference, ours) / float(np.abs(reference).max())


def share_of_each(reference: Any, ours: Any) -> float:
    return float(np.abs(np.asarray(ours, dtype=np.float64) / np.asarray(reference, dtype=np.float64) - 1).max())


def mel_case(samples: Samples) -> Case:
    windows = samples.windows[:AT_ONCE]
    eegs, batch = [references.by_electrode(window) for window in windows], torch.from_numpy(windows)
    return Case(
        id="P1",
        what="EEG mel image (512, 256) from (20, 10000) microvolts | librosa per signal",
        reach=20,
        cores=1,
        reference=lambda: np.stack([references.mel_image(eeg) for eeg in eegs]),
        ours=lambda: build_input(Windows(batch, None), MEL)[:, 0].numpy(),
        error=largest_difference,
        bound=IMAGE_BOUND,
        work=mel_work(),
        items=AT_ONCE,
    )


def mel_work() -> Work:
    # 16 signals x 257 frames: two products of 64 samples and 102 bins (window folded), 203 mel weights; a logarithm
    # a pixel. Bytes: the electrodes in float32, the image.
    frames = 16 * 257
    operations = frames * (2 * 2 * 64 * 102 + 2 * 203) + LOGARITHM * MEL_PIXELS
    return Work(float32=operations, bytes=4 * (20 * WINDOW_SAMPLES + MEL_PIXELS))


def mel_image_of_file(path: Path) -> np.ndarray:
    """(512, 256) as the kit makes it from a file: read, central 50 s, build_input."""
    window = central(read_eeg(path).values, WINDOW_SAMPLES)
    return build_input(Windows(torch.from_numpy(window)[None], None), MEL)[0, 0].numpy()


def files_case(samples: Samples, pool: Any) -> Case:
    files = samples.eeg_files
    return Case(
        id="P2",
        what=f"parquet to mel image, {len(files)} files | pandas and librosa in two processes",
        reach=12,
        cores=2,
        reference=lambda: list(pool.map(references.mel_image_of_file, files)),
        ours=lambda: list(read_ahead(mel_image_of_file, files, READ_AHEAD)),
        error=largest_difference,
        bound=IMAGE_BOUND,
        # P1, and the file's bytes read and unpacked to float32.
        work=Work(mel_work().float32, 0, mel_work().bytes + files[0].stat().st_size + 4 * 20 * WINDOW_SAMPLES),
        items=len(files),
        threads=1,
    )


@contextmanager
def files_in_two_processes(samples: Samples) -> Iterator[Case]:
    """P2, with the two processes of the reference."""
    spawn = multiprocessing.get_context("spawn")  # forked copies of polars and torch can lock up
    with environment(ONE_THREAD), ProcessPoolExecutor(2, mp_context=spawn) as pool:
        yield files_case(samples, pool)


def percentile_case(samples: Samples) -> Case:
    window = torch.from_numpy(samples.windows[0])[None]
    panels = build_input(Windows(window, None), MEL)[0, 0].unflatten(0, (4, 128))
    # 10 minima and maxima and 4 mixes of 3 operations a pixel; four panels read, four written.
    work = Work(float32=(10 + 4 * 3) * MEL_PIXELS / 4, bytes=2 * 4 * MEL_PIXELS)
    return Case(
        id="P3",
        what="20, 40, 60, 80 % of four panels of 128 x 256 | numpy.percentile",
        reach=12,
        cores=1,
        reference=lambda: references.percentile_image(panels.numpy()),
        ours=lambda: percentiles(panels).numpy(),
        error=largest_difference,
        bound=IMAGE_BOUND,
        work=work,
    )


def sequence_case(samples: Samples) -> Case:
    windows = samples.windows[:AT_ONCE]
    eegs, batch = [references.by_electrode(window) for window in windows], torch.from_numpy(windows)
    # Four poles and five zeros: 9 multiplications and 8 additions a sample; electrodes read, 18 signals written.
    work = Work(float32=17 * 18 * WINDOW_SAMPLES, bytes=4 * (20 + 18) * WINDOW_SAMPLES)
    return Case(
        id="P4",
        what="band-pass 0.5-20 Hz and clip of 18 differences | scipy butter and lfilter per signal",
        reach=5,
        cores=1,
        reference=lambda: np.stack([references.sequence(eeg) for eeg in eegs]),
        ours=lambda: build_input(Windows(batch, None), SEQUENCE).numpy(),
        error=share_of_largest,
        bound=SIGNAL_BOUND,
        work=work,
        items=AT_ONCE,
    )


def kaggle_case(samples: Samples) -> Case:
    path, values = samples.spectrogram_file, samples.spectrogram.size
    # A logarithm and 8 operations (clip, mean, square, deviation, standardise) a value; the file, power, image.
    work = Work(float32=(LOGARITHM + 8) * values, bytes=path.stat().st_size + 2 * 4 * values)

    def ours() -> np.ndarray:
        power = torch.from_numpy(read_spectrogram(path).values)[None]
        return build_input(Windows(None, power), KAGGLE)[0, 0].numpy()

    return Case(
        id="P5",
        what="Kaggle spectrogram file to standardised image (400, 300) | pandas and numpy",
        reach=3,
        cores=2,
        reference=lambda: references.kaggle_image(path),
        ours=ours,
        error=largest_difference,
        bound=IMAGE_BOUND,
        work=work,
    )


def spectrogram_case(samples: Samples) -> Case:
    recording = samples.recording
    eeg, columns = references.by_electrode(recording), (recording.shape[1] - 800) // 400 + 1
    # 16 signals x columns x 3 tapers: a real transform of 1024 points, 2.5 n log2 n; three sections of 9 operations a
    # sample, forwards and backwards; electrodes read, power written.
    transforms, filters = 16 * columns * 3 * 2.5 * 1024 * 10, 2 * 3 * 9 * 16 * recording.shape[1]
    work = Work(float64=transforms + filters, bytes=4 * (recording.size + 400 * columns))
    return Case(
        id="P6",
        what=f"competition spectrogram of {recording.shape[1]} samples | scipy loop, one process",
        reach=10,
        cores=2,
        reference=lambda: references.spectrogram(eeg),
        ours=lambda: competition_spectrogram(recording).numpy(),
        error=share_of_each,
        bound=SIGNAL_BOUND,
        work=work,
    )


def write_train_eegs(competition: Path, recording: np.ndarray) -> dict[int, Path]:
    """Files of a minute each, cut from a recording at other places; by their ids."""
    folder, length = competition / TRAIN_EEGS, STORED_SECONDS * SFREQ
    folder.mkdir(parents=True)
    starts = np.linspace(0, recording.shape[1] - length, STORED).astype(int)
    pieces = {1 + i: recording[:, start : start + length] for i, start in enumerate(starts)}
    return {eeg_id: write_eeg(folder / f"{eeg_id}.parquet", piece) for eeg_id, piece in pieces.items()}


def store_case(samples: Samples, store: RecordingStore, files: dict[int, Path]) -> Case:
    rng = np.random.default_rng(0)
    ids = rng.choice(list(files), BATCH).tolist()
    starts = rng.integers(0, STORED_SECONDS * SFREQ - WINDOW_SAMPLES, BATCH).tolist()
    asked = list(zip(ids, starts, strict=True))
    return Case(
        id="P7",
        what=f"a window of 50 s anywhere in a recording, {BATCH} at random from the store | polars, a parquet per EEG",
        reach=20,
        cores=2,
        reference=lambda: np.stack(
            [references.window_of_file(files[eeg_id], start, WINDOW_SAMPLES) for eeg_id, start in asked]
        ),
        ours=lambda: store.windows(ids, starts, WINDOW_SAMPLES).numpy(),
        error=largest_difference,
        bound=0.0,
        work=Work(bytes=2 * 4 * 20 * WINDOW_SAMPLES),  # read and written
        items=BATCH,
    )


@contextmanager
def stored_case(samples: Samples) -> Iterator[Case]:
    """P7 with a store of its own, made from files as `train` makes it."""
    with TemporaryDirectory() as folder:
        competition = Path(folder) / "competition"
        files = write_train_eegs(competition, samples.recording)
        store = RecordingStore(EEGS, competition, Path(folder) / "store", files)
        yield store_case(samples, store, files)
