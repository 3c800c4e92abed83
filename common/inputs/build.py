"""build_input: the only maker of model input, for training and inference alike.

On the CPU inputs are made window by window, on a GPU in groups of one size, so that all operations have a fixed
shape: the same window gives the same bits whatever the batch, its order or the caller. (A product over a
whole batch may be split differently for another batch size, and then rounds differently.)
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from common.inputs.base import Constants, Input, Windows, constants_wanted, needs_eeg, needs_spectrogram, with_constants
from common.parallel import parallel_map
from common.schema import N_ELECTRODES, N_FREQUENCIES, REGIONS, SPECTROGRAM_COLUMNS, WINDOW_SAMPLES

GPU_GROUP = 32  # windows that a GPU makes at once
LARGEST = 1e9  # microvolts, or uV^2/Hz


def make_exactly(config: Input, windows: Windows) -> Tensor:
    """config.make on the CPU, in a thread that may not know that its caller wants no autocast."""
    with torch.autocast("cpu", enabled=False):
        return config.make(windows)


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

    config: one of common.inputs.config, whose `make` says what it gives. Raises ValueError when a recording that the
    input needs is None, or has another shape than Windows promises.
    """
    # What the input does not look at is left out, so that it costs nothing.
    eeg = windows.eeg if needs_eeg(config) else None
    spectrogram = windows.spectrogram if needs_spectrogram(config) else None
    given = [values for values in (eeg, spectrogram) if values is not None]
    if not given:
        return config.make(Windows(None, None))  # says what is lacking
    check_shapes(eeg, spectrogram)
    n_windows, device = len(given[0]), given[0].device
    size = GPU_GROUP if device.type == "cuda" else 1
    groups = zip(range(0, n_windows, size), in_groups(eeg, size), in_groups(spectrogram, size), strict=False)
    whole = [Windows(*group) for _, *group in groups]
    with exact_products(device):
        if device.type == "cuda":
            made = [config.make(group) for group in whole]
        else:
            made = parallel_map(lambda group: make_exactly(config, group), whole)
    return torch.cat(made)[:n_windows]


@functools.cache
def input_shape(config: Input) -> tuple[int, ...]:
    """Shape of the model input of one window. Raises ValueError where the config's parts do not fit each other."""
    eeg = torch.zeros(N_ELECTRODES, WINDOW_SAMPLES)
    spectrogram = torch.ones(len(REGIONS), N_FREQUENCIES, SPECTROGRAM_COLUMNS)
    if constants_wanted(config):
        config = with_constants(config, (Constants(mean=0, deviation=1),) * constants_wanted(config))
    return tuple(build_input(Windows(eeg[None], spectrogram[None]), config).shape[1:])
