"""Changes to raw windows that keep the label. They act on the signal, before the input is made."""

import numpy as np
import torch

from common.features import Windows
from common.montage import mirror_eeg, mirror_spectrogram


def draw_shifts(n_rows: int, seconds: float) -> np.ndarray | None:
    """Where training windows start beside their labels' own starts, uniform within +-seconds: (n_rows,), or none."""
    return (2 * torch.rand(n_rows, dtype=torch.float64) - 1).numpy() * seconds if seconds else None


def mirror_some(windows: Windows, share: float) -> Windows:
    """Exchange the hemispheres of a random `share` of the windows: no pattern's name says its side."""
    raw = windows.eeg if windows.eeg is not None else windows.spectrogram
    assert raw is not None
    chosen = torch.rand(len(raw)) < share  # drawn on the CPU: the same on every device
    if not chosen.any():
        return windows
    changed = [None if kind is None else kind.clone() for kind in (windows.eeg, windows.spectrogram)]
    for kind, mirror in zip(changed, (mirror_eeg, mirror_spectrogram), strict=True):
        if kind is not None:
            kind[chosen] = mirror(kind[chosen])
    return Windows(*changed)
