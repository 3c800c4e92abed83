"""Model inputs with the newest versions of all libraries against those of the pinned ones.

    .venv/bin/python tests/support/newest.py write FILE             every input of made-up and real windows
    .venv-newest/bin/python tests/support/newest.py compare FILE    the same again, and the largest difference of each

`make test-newest` does both, and compares once more as on an older processor: two versions of torch may carry the
same products and transforms, and then agree to the bit. Exit code 1 when an input differs by more than 2e-5 in its
own units (of values beyond 2 by 1e-5 of the window's largest), and when the two ran on the same versions, so that
nothing was compared.
"""

import importlib.metadata
import json
import sys

import numpy as np
import torch
from eeg_samples import (
    DATA,
    broken_eegs,
    broken_spectrograms,
    every_input,
    read_real_spectrogram,
    real_eeg,
    windows_for,
)

from common.inputs.build import build_input

BOUND, SHARE = 2e-5, 1e-5
VERSIONED = ("torch", "numpy", "scipy", "PyWavelets", "timm", "pydantic", "polars", "pyarrow", "librosa", "mne")


def versions():
    return {name: importlib.metadata.version(name) for name in VERSIONED}


def sample_windows():
    """(windows, 20, 10000) and (windows, 4, 100, 300): broken ones, then real ones where they are at hand."""
    eegs, power = list(broken_eegs()), list(broken_spectrograms())
    if (DATA / "iiic").exists():
        names = sorted(path.stem for path in (DATA / "iiic/test_eegs").glob("*.parquet"))[::6]
        eegs += [real_eeg(name) for name in names]
        power += [read_real_spectrogram()] * len(names)
    return np.stack(eegs), np.stack(power)


def all_inputs():
    """Name and model inputs of each config, one at a time."""
    torch.set_num_threads(1)
    eegs, power = sample_windows()
    for name, config in every_input().items():
        yield name, build_input(windows_for(config, eegs, power), config).numpy()


def write(file):
    made = dict(all_inputs())
    np.savez(file, __versions__=json.dumps(versions()), **made)
    print(f"{len(made)} inputs of {len(next(iter(made.values())))} windows with {versions()}")


def excess(made, expected):
    """Largest difference of each window, and by how much of its bound: (windows,), (windows,)."""
    axes = tuple(range(1, made.ndim))
    difference = np.abs(made.astype(np.float64) - expected).max(axis=axes)
    return difference, difference / np.maximum(BOUND, SHARE * np.abs(expected).max(axis=axes))


def compare(file):
    there = np.load(file)
    before, now = json.loads(str(there["__versions__"])), versions()
    print("library      pinned       newest")
    for name in VERSIONED:
        print(f"{name:12} {before[name]:12} {now[name]}")
    if all(before[name] == now[name] for name in ("torch", "numpy", "scipy")):
        return "torch, numpy and scipy are the same in both: nothing was compared"
    print("\ninput                           largest difference   of its bound")
    far = []
    for name, made in all_inputs():
        expected = there[name]
        if made.shape != expected.shape or not np.isfinite(made).all():
            far.append(f"{name}: {expected.shape} became {made.shape}, or is not finite")
            continue
        difference, share = excess(made, expected)
        print(f"{name:32} {difference.max():.1e}              {share.max():7.1%}")
        if share.max() > 1:
            far.append(f"{name}: differs by {difference[share.argmax()]:.1e} in window {share.argmax()}")
    return "\n".join(far)


if __name__ == "__main__":
    todo, file = sys.argv[1:]
    sys.exit({"write": write, "compare": compare}[todo](file) or 0)
