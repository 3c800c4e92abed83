"""A blend that averages logarithms, from its file to submission.csv."""

import numpy as np
import polars as pl
from blend_samples import PRIOR

from common.blend import LogLinear, parse_blend
from common.schema import TEST_EEGS, TEST_SPECTROGRAMS, VOTES
from infer.submit import submit

BIAS = (0.2, -0.3, 0.1, 0.0, -0.1, 0.4)
CORRECTION = tuple(map(tuple, np.random.default_rng(0).normal(size=(12, 6)).tolist()))
WEIGHTS = {"tiny-image": 0.7, "tiny-wave": 0.3}


def answers(competition, datasets, blend, out):
    report = submit(competition, datasets, parse_blend(blend.model_dump_json(), "blend.json"), out)
    table = pl.read_csv(out)
    return table["eeg_id"].to_list(), table.select(VOTES).to_numpy(), report


def test_the_submission_is_what_the_blend_file_says(road, competition, tmp_path):
    """By hand from what each model says alone; a model whose recording is missing leaves the row to the other one."""
    ids, *_ = answers(competition, road.datasets, road.blend, tmp_path / "plain.csv")
    pairs = pl.read_csv(competition / "test.csv")
    for half in (TEST_EEGS, TEST_SPECTROGRAMS):  # of the first EEG only the spectrogram stays, of the second nothing
        column = "eeg_id" if half == TEST_EEGS else "spectrogram_id"
        for eeg_id in ids[:2] if half == TEST_EEGS else ids[1:2]:
            (competition / half / f"{pairs.filter(eeg_id=eeg_id)[column][0]}.parquet").unlink()
    alone = {}
    for folder in road.datasets:
        name = folder.name.removeprefix("hms-")
        only = road.blend.model_copy(update={"models": {name: 1.0}, "drop": (), "prior": PRIOR})
        _, alone[name], _ = answers(competition, [folder], only, tmp_path / f"{name}.csv")
    shape = LogLinear(temperature=0.7, bias=BIAS, correction=CORRECTION)
    blend = road.blend.model_copy(update={"models": WEIGHTS, "log_linear": shape, "prior": PRIOR})
    order, found, report = answers(competition, road.datasets, blend, tmp_path / "blend.csv")
    assert order == ids

    def by_hand(weights):
        mean = sum(weight * alone[name] for name, weight in weights.items())
        spread = np.sqrt(sum(weight * (alone[name] - mean) ** 2 for name, weight in weights.items()))
        logits = sum(weight * np.log(alone[name]) for name, weight in weights.items()) / 0.7 + BIAS
        logits = logits + np.concatenate([mean, spread], axis=1) @ np.array(CORRECTION)
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    np.testing.assert_allclose(found[2:], by_hand(WEIGHTS)[2:], rtol=1e-6)
    np.testing.assert_allclose(found[0], by_hand({"tiny-image": 1.0})[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], PRIOR, rtol=1e-9)
    assert [(entry["eeg_id"], entry["answer"]) for entry in report.fallbacks] == [
        (str(ids[0]), "blend without tiny-wave"),
        (str(ids[1]), "prior"),
    ]
