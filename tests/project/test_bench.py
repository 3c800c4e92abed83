"""The bench's references agree with the kit on small cases: a ratio of two different things would mean nothing."""

import cases
import kernel_cost
import pytest
import reference_submit
import references
import samples
import submit_case

from common.blend import load_blend
from infer.submit import submit


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return samples.make_samples(tmp_path_factory.mktemp("samples"), seconds=60, files=1)


class OneProcess:
    """Stands for the pool of two processes, whose start takes longer than the case."""

    map = staticmethod(map)


@pytest.mark.parametrize(
    "make",
    [
        cases.mel_case,
        lambda made: cases.files_case(made, OneProcess()),
        cases.percentile_case,
        cases.sequence_case,
        cases.kaggle_case,
        cases.spectrogram_case,
    ],
    ids=["P1", "P2", "P3", "P4", "P5", "P6"],
)
def test_reference_is_the_same_thing(make, made):
    case = make(made)
    assert case.error(case.reference(), case.ours()) <= case.bound
    assert case.work.bytes > 0 and case.reach > 1


def test_store_holds_what_the_files_hold(made):
    with cases.stored_case(made) as case:
        assert case.error(case.reference(), case.ours()) == 0.0


def test_public_inference_is_the_same_thing(tmp_path, monkeypatch):
    competition, weights, theirs, ours = (tmp_path / n for n in ("competition", submit_case.NAME, "a.csv", "b.csv"))
    samples.write_test_set(competition, eegs=2)
    submit_case.write_nets(weights, folds=2)
    monkeypatch.setattr("sys.argv", ["reference_submit.py", *map(str, (competition, weights, theirs))])
    reference_submit.main()
    submit(competition, [weights], load_blend(submit_case.write_blend(tmp_path / "blend.json")), ours)
    assert submit_case.compare(theirs, ours) <= submit_case.BOUND
    answers = references.pd.read_csv(ours).iloc[:, 1:].to_numpy()
    assert abs(answers[0] - answers[1]).max() > 1e-3  # nets that see nothing would agree with anything


@pytest.mark.slow
def test_the_kernels_cost_is_its_own(tmp_path):
    report = kernel_cost.measure(tmp_path, eegs=3, folds=1)
    assert report["ok"] and report["submission_rows"] == 3
    row = kernel_cost.row(report)
    assert set(row) == set(kernel_cost.COLUMNS) and min(row.values()) > 0
    parts = sum(row[name] for name in kernel_cost.COLUMNS[1:-1])
    assert parts <= report["kernel"]["seconds"]["total"] + 0.1 < row["total"]
