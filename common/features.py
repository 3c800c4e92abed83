"""build_input: the only maker of model input, for training and inference alike.

On the CPU inputs are made window by window, on a GPU in groups of one size, so that all operations have a fixed
shape: the same window gives the same bits whatever the batch, its order or the caller. (A product over a
whole batch may be split differently for another batch size, and then rounds differently.)
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.images import (
    eeg_mel_image,
    eeg_spectra,
    join_images,
    kaggle_image,
    kaggle_log_power,
    mean_and_deviation,
    raw_image,
    resized,
)
from common.inputs import (
    BipolarSequence,
    CombinedImage,
    Constants,
    EegMelImage,
    EegSpectra,
    KaggleImage,
    RawImage,
    Strict,
    needs_eeg,
    needs_spectrogram,
    parts_of,
)
from common.parallel import parallel_map
from common.schema import N_ELECTRODES, N_FREQUENCIES, REGIONS, SPECTROGRAM_COLUMNS, WINDOW_SAMPLES
from common.sequences import bipolar_sequence

GPU_GROUP = 32  # windows that a GPU makes at once
LARGEST = 1e9  # microvolts, or uV^2/Hz


@dataclass(frozen=True)
class Windows:
    """A batch of raw windows, NaN where missing. What a model does not look at may be None.

    eeg: (batch, 20, 10000) microvolts; spectrogram: (batch, 4, 100, 300) power.
    """

    eeg: Tensor | None
    spectrogram: Tensor | None


def make(config: Any, eeg: Tensor | None, spectrogram: Tensor | None) -> Tensor:
    """The model input of a group of windows, made at once: eeg (group, 20, 10000), spectrogram (group, 4, 100, 300)."""
    if isinstance(config, CombinedImage):
        images = [make(part, eeg, spectrogram) for part in config.images]
        return resized(join_images(images, config.join), config.resize)
    raw = spectrogram if isinstance(config, KaggleImage) else eeg
    if raw is None:
        lacks = "the spectrogram" if isinstance(config, KaggleImage) else "the EEG"
        raise ValueError(f"{type(config).__name__} needs {lacks}")
    makers: dict[type, Callable[[Tensor, Any], Tensor]] = {
        KaggleImage: kaggle_image,
        EegMelImage: eeg_mel_image,
        RawImage: raw_image,
        EegSpectra: eeg_spectra,
        BipolarSequence: bipolar_sequence,
    }
    return makers[type(config)](raw, config)


def make_exactly(config: Any, eeg: Tensor | None, spectrogram: Tensor | None) -> Tensor:
    """make() on the CPU, in a thread that may not know that its caller wants no autocast."""
    with torch.autocast("cpu", enabled=False):
        return make(config, eeg, spectrogram)


def check_shapes(eeg: Tensor | None, spectrogram: Tensor | None) -> None:
    """Raises ValueError when the windows are none, or not of one number and of the shapes that Windows promises."""
    wanted = {"eeg": (N_ELECTRODES, WINDOW_SAMPLES), "spectrogram": (len(REGIONS), N_FREQUENCIES, SPECTROGRAM_COLUMNS)}
    given = {name: values for name, values in (("eeg", eeg), ("spectrogram", spectrogram)) if values is not None}
    for name, values in given.items():
        if tuple(values.shape[1:]) != wanted[name] or not len(values):
            shape = ", ".join(map(str, wanted[name]))
            raise ValueError(f"windows.{name} has the shape {tuple(values.shape)}, expected (at least 1, {shape})")
    if len({len(values) for values in given.values()}) > 1:
        raise ValueError(" and ".join(f"{len(values)} windows of {name}" for name, values in given.items()))


@contextlib.contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Float32 products in full, whatever a caller allows its nets: TF32 or half precision would bury weak bins."""
    allowed = torch.get_float32_matmul_precision()
    if allowed != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if allowed != "highest":
            torch.set_float32_matmul_precision(allowed)


def in_groups(values: Tensor | None, size: int) -> Iterator[Tensor | None]:
    """Groups of `size` windows, float32, the last one filled up with silence; for None, None for ever.

    What no amplifier or power can be is cut to the largest that nothing below overflows with.
    """
    while values is None:
        yield None
    for group in values.float().clamp(-LARGEST, LARGEST).split(size):
        missing = size - len(group)
        yield torch.cat([group, group.new_zeros(missing, *group.shape[1:])]) if missing else group


def build_input(windows: Windows, config: Any) -> Tensor:
    """Model input of a batch of at least one window, float32 on the windows' device, never NaN.

    config: one of common.inputs; images are (batch, channels, height, width) with the lowest frequency first in
    each panel, sequences (batch, channels, time). `input_shape` tells the sizes. Raises ValueError when a
    recording that the input needs is None.
    """
    # What the input does not look at is left out, so that it costs nothing.
    eeg = windows.eeg if needs_eeg(config) else None
    spectrogram = windows.spectrogram if needs_spectrogram(config) else None
    given = [values for values in (eeg, spectrogram) if values is not None]
    if not given:
        return make(config, eeg, spectrogram)  # says what is lacking
    check_shapes(eeg, spectrogram)
    n_windows, device = len(given[0]), given[0].device
    size = GPU_GROUP if device.type == "cuda" else 1
    groups = zip(range(0, n_windows, size), in_groups(eeg, size), in_groups(spectrogram, size), strict=False)
    whole = [group for _, *group in groups]
    with exact_products(device):
        if device.type == "cuda":
            made = [make(config, *group) for group in whole]
        else:
            made = parallel_map(lambda group: make_exactly(config, *group), whole)
    return torch.cat(made)[:n_windows]


@functools.cache
def input_shape(config: Strict) -> tuple[int, ...]:
    """Shape of the model input of one window. Raises ValueError where the config's parts do not fit each other."""
    eeg = torch.zeros(N_ELECTRODES, WINDOW_SAMPLES)
    spectrogram = torch.ones(len(REGIONS), N_FREQUENCIES, SPECTROGRAM_COLUMNS)
    if constants_wanted(config):
        config = with_constants(config, (Constants(mean=0, deviation=1),) * constants_wanted(config))
    return tuple(build_input(Windows(eeg[None], spectrogram[None]), config).shape[1:])


# ---- constants measured on training rows


def wants_constants(part: Any) -> bool:
    return isinstance(part, KaggleImage) and "training" in (part.standardise, part.standardise_features)


def constants_wanted(config: Any) -> int:
    """How many images of a config are standardised by constants of the training rows."""
    return sum(wants_constants(part) for part in parts_of(config))


def with_constants(config: Any, constants: tuple[Constants, ...]) -> Any:
    """The config with its measured constants, one for each image that wants them, in their order."""
    if len(constants) != constants_wanted(config):
        raise ValueError(f"{constants_wanted(config)} measured constants wanted, got {len(constants)}")
    left = iter(constants)

    def filled(part: Any) -> Any:
        if not wants_constants(part):
            return part
        measured = next(left)
        keys = [key for key in ("standardise", "standardise_features") if getattr(part, key) == "training"]
        return part.model_copy(update=dict.fromkeys(keys, measured))

    if isinstance(config, CombinedImage):
        return config.model_copy(update={"images": tuple(map(filled, config.images))})
    return filled(config)


def measure_constants(config: Any, batches: Iterable[Windows]) -> tuple[Constants, ...]:
    """Constants of the windows in `batches`: mean of their means, mean of their deviations of log power.

    As the published constants were made, but only from rows that the model is trained on. Raises ValueError
    when not one window has a finite value.
    """
    parts = [part for part in parts_of(config) if wants_constants(part)]
    totals = torch.zeros(len(parts), 3, dtype=torch.float64)  # sum of means, sum of deviations, windows
    for windows in batches if parts else ():
        assert windows.spectrogram is not None
        for spectrogram in windows.spectrogram.split(1):
            for total, part in zip(totals, parts, strict=True):
                log_power = kaggle_log_power(spectrogram, part)
                if log_power.isfinite().any():
                    mean, deviation = (value.item() for value in mean_and_deviation(log_power, (-3, -2, -1)))
                    total += torch.tensor([mean, deviation, 1.0], dtype=torch.float64)
    if (totals[:, 2] == 0).any():
        raise ValueError("constants of the training rows: not one spectrogram has a finite value")
    return tuple(Constants(mean=mean / n, deviation=deviation / n) for mean, deviation, n in totals.tolist())
