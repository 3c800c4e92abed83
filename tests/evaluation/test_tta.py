"""TTA views: what they show, that they count, that none is left out unreported, what they cost."""

import json

import numpy as np
import polars as pl
import pytest

import infer.ensemble
import infer.net
from common.blend import BlendError, parse_blend
from common.schema import REGIONS, SPECTROGRAM_FIELDS, VOTES
from common.tta import View
from infer.submit import submit

MIRROR, EARLIER = View(mirror=True), View(shift=-6)
# Written out a second time: who is opposite to whom.
LEFT, RIGHT = ("Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1"), ("Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2")
OPPOSITE = dict(zip(LEFT, RIGHT, strict=True))
OPPOSITE |= {right: left for left, right in OPPOSITE.items()} | {name: name for name in ("Fz", "Cz", "Pz", "EKG")}
OTHER_SIDE = {"LL": "RL", "RL": "LL", "LP": "RP", "RP": "LP"}


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([{}], "TTA views are plain: each must differ from the others and from the plain one"),
        ([{"mirror": True}, {"mirror": True}], "views are mirror, mirror"),
        ([{"shift": 3}], r"shift = 3: a spectrogram's columns are 2 s apart"),
        ([{"shift": 30}], "less than or equal to 20"),
        ([{"shift": 4, "mirror": 7}], "views.0.mirror"),
    ],
)
def test_views_that_make_no_sense_are_refused(views, message):
    with pytest.raises(BlendError, match=message):
        parse_blend(json.dumps({"models": {}, "prior": [1 / 6] * 6, "views": views}), "blend.json")


def rewritten(competition, out, view):
    """The test set as the view shows it, written with polars by column name: an implementation of its own."""
    for name in ("test_eegs", "test_spectrograms"):
        (out / name).mkdir(parents=True)
        for path in (competition / name).glob("*.parquet"):
            frame = pl.read_parquet(path)
            if view.mirror and name == "test_eegs":
                frame = frame.select(pl.col(OPPOSITE[column]).alias(column) for column in frame.columns)
            elif view.mirror:
                fields = [field for region in REGIONS for field in SPECTROGRAM_FIELDS[region]]
                frame = frame.select("time", *(pl.col(OTHER_SIDE[f[:2]] + f[2:]).alias(f) for f in fields))
            rows = int(view.shift * (200 if name == "test_eegs" else 0.5))
            moved = [column for column in frame.columns if column != "time"]
            frame.with_columns(pl.col(moved).shift(-rows)).write_parquet(out / name / path.name)
    (out / "test.csv").write_bytes((competition / "test.csv").read_bytes())
    return out


def answers(competition, road, out, views=()):
    report = submit(competition, road.datasets, road.blend.model_copy(update={"views": views}), out)
    return pl.read_csv(out).select(VOTES).to_numpy(), report


@pytest.mark.parametrize("view", [View(mirror=True, shift=-2), View(shift=4)], ids=str)
def test_a_view_changes_the_answer_to_the_mean_of_both(road, tmp_path, view):
    plain, _ = answers(road.competition, road, tmp_path / "plain.csv")
    both, report = answers(road.competition, road, tmp_path / "both.csv", (view,))
    alone, _ = answers(rewritten(road.competition, tmp_path / "seen", view), road, tmp_path / "alone.csv")
    assert np.abs(both - plain).max() > 1e-5  # a view that changes nothing would be one that is not there
    np.testing.assert_allclose(both, (plain + alone) / 2, rtol=0, atol=1e-9)
    assert report.views == ["plain", str(view)]


def test_none_is_left_out_unreported(road, tmp_path, monkeypatch):
    """Every net looks once at every view of every EEG, and the report has the cost of each."""
    looked, real = [], infer.net.predict
    shown, build = [], infer.ensemble.build_input
    monkeypatch.setattr(
        infer.net, "predict", lambda net, inputs, half=False: looked.append(len(inputs)) or real(net, inputs)
    )
    monkeypatch.setattr(infer.ensemble, "build_input", lambda *given: shown.append(1) or build(*given))
    _, report = answers(road.competition, road, tmp_path / "out.csv", (MIRROR, EARLIER))
    assert sum(looked) == 9 * 4 * 3  # EEGs, nets, views
    assert len(shown) == 2 * 2 * 3  # batches, distinct inputs, views: each built once
    spent = report.seconds["views"]
    assert list(spent) == ["plain", "mirror", "-6 s"] and min(spent.values()) > 0
    stages = report.seconds["stages"]
    assert sum(spent.values()) == pytest.approx(stages["inputs"] + stages["models"], abs=0.05)
    assert "seconds of each view: plain" in "\n".join(report.lines()) and report.dropped == []


def test_a_view_given_up_for_time_is_reported(road, tmp_path):
    blend = road.blend.model_copy(update={"views": (MIRROR,), "hours": 1e-9})
    report = submit(road.competition, road.datasets, blend, tmp_path / "out.csv")
    assert report.dropped[0].startswith("view mirror after 2 EEGs: ") and "no time left" in report.warnings[-1]
