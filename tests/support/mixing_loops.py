"""CutMix and mosaic a second time, literally, by loops; and the draws that tests give them."""

import numpy as np
import torch


def drawing(seed=0):
    return torch.Generator().manual_seed(seed)


def cutmix_by_loops(images, target, config, cuts):
    """As the notebooks do it, row by row, in numpy."""
    original, result = images.numpy(), images.numpy().copy()
    for c in range(6):
        rows = np.flatnonzero(target[:, c].numpy() >= config.threshold)
        if len(rows) < 2:
            continue
        permuted = rows[np.argsort(cuts.keys[c, rows].numpy())]
        start, size = int(cuts.start[c]), int(cuts.size[c])
        for begin in (start, start + config.length) if config.second_cut else (start,):
            band = slice(begin, begin + size)
            for i, source in zip(rows, permuted, strict=True):
                if config.axis == "time":
                    result[i, :, :, band] = original[source, :, :, band]
                else:
                    result[i, :, band, :] = original[source, :, band, :]
    return result


def mosaic_by_loops(images, target, generator):
    """Images and targets as the notebooks make them, column by column."""
    drawn = torch.randint(len(images), (len(images), 4), generator=generator)
    made, quarter = torch.empty_like(images), images.shape[-1] // 4
    for i in range(len(images)):
        for strip in range(4):
            source = images[drawn[i, strip]]
            for column in range(quarter):
                mean = source[..., 4 * column : 4 * column + 4].double().mean(dim=-1)
                made[i, ..., quarter * strip + column] = mean.to(images.dtype)
    return made, torch.stack([target[row].mean(dim=0) for row in drawn]), drawn
