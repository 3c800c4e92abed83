"""Never two submissions, never other bytes than were checked, never a submission without its row."""

import json
from types import SimpleNamespace

import pytest
from publish_stage import ANSWER, OWNER, SLUG, assert_published_once, prepared
from publish_stage import publish as run

import publish
from common.errors import KitError
from common.files import sha256_of
from kaggle_server import Fault
from publishing import kernel_push, uploads
from publishing.bundle import prepare_upload, read_bundle
from publishing.job import Job, PublishError
from publishing.kaggle_command import KaggleError
from publishing.kaggle_failures import BY_NAME
from publishing.state import begin, load
from publishing.submission import submit


@pytest.fixture
def stage_at(tmp_path_factory, tmp_path):
    """A copy of a stage in which this part is done."""
    return lambda part: prepared(tmp_path_factory, part).copy(tmp_path / "stage")


class FakeKaggle:
    """A Kaggle whose answers to a submission are told one by one: "arrives", "refused", or both with a lost answer."""

    def __init__(self, *sends, counts=True, looks=()):
        self.sends, self.counts, self.looks = list(sends), counts, list(looks)
        self.sent, self.listed = [], False

    def read(self, *words):
        if "submission-limits" in words:
            told = len(self.sent) if self.counts else 0
            return f"Submissions today: {told}\nLifetime submissions: {told}\nRemaining today: {5 * self.counts - told}"
        failure = self.looks.pop(0) if self.looks else None
        if failure:
            raise KaggleError(BY_NAME[failure], "kaggle", "it failed")
        return json.dumps([{"ref": 7, "description": message} for message in self.sent] if self.listed else [])

    def change(self, *words):
        told = self.sends.pop(0)
        if told.startswith("arrives"):
            self.sent.append(words[-1])
        if "lost" in told or told == "refused":
            raise KaggleError(BY_NAME["connection" if "lost" in told else "rules"], "kaggle", "it failed")
        return "Submission ref: 7"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    stage = prepared(tmp_path_factory)
    return read_bundle(stage.kernel, [stage.weights], stage.blend, stage.sandbox, OWNER)


@pytest.fixture
def job(bundle, tmp_path_factory, tmp_path):
    """What makes the job of a publication whose kernel version 1 has run, on a Kaggle that is made up."""
    begun = begin(bundle, OWNER, None, "")
    begun.kernel.version, begun.kernel.complete = 1, True

    def job(kaggle, resend=False):
        options = publish.parse([*prepared(tmp_path_factory).words()[2:], "--out", str(tmp_path)])
        options.poll, options.resend = 0.0, resend
        return Job(kaggle, bundle, load(tmp_path / "publication.json") or begun, options)

    return job


CASES = {  # what becomes of each attempt, whether Kaggle counts, what a look at its list says, and attempts in all
    "rights, while looking": (["arrives lost"], True, ["rules"], 1),
    "a list that lags": (["arrives lost"], True, [], 1),
    "a refusal of the repetition": (["arrives lost", "refused"], True, [], 1),
    "lost on the way there": (["lost", "arrives lost"], True, [], 2),
    "no count": (["arrives lost"], False, [], 1),
    "no count, lost on the way there": (["lost"], False, [], 1),
    "refused without a count": (["refused"], False, [], 1),
}


@pytest.mark.parametrize("name", CASES)
def test_no_second_submission_while_the_first_may_have_arrived(job, name):
    sends, counts, looks, attempts = CASES[name]
    kaggle = FakeKaggle(*sends, "arrives", counts=counts, looks=looks)
    for _ in range(3):  # and --resume twice
        with pytest.raises(KitError):
            submit(job(kaggle))
        assert job(kaggle).state.submission.asked
    assert len(sends) + 1 - len(kaggle.sends) == attempts and len(kaggle.sent) <= 1
    kaggle.listed = True
    last = job(kaggle, resend=True)
    submit(last)  # found, or, as the user says that there is none, sent
    assert last.state.submission.ref == 7 and len(kaggle.sent) == 1


def test_what_was_refused_is_sent_again_where_the_count_tells_that_it_did_not_arrive(job):
    kaggle = FakeKaggle("refused", "arrives")
    with pytest.raises(KaggleError):
        submit(job(kaggle))
    last = job(kaggle)
    submit(last)
    assert last.state.submission.ref == 7 and len(kaggle.sent) == 1


@pytest.mark.slow
def test_a_submission_without_scores_is_not_left_behind_and_its_row_is_true(stage_at):
    stage = stage_at("kernel")
    with stage.kaggle() as server:
        pending = Fault("/GetSubmission", "instead", nth=1, last=999, body={"ref": 1, "status": "PENDING"})
        waited = ("--wait-minutes", "0.02")
        assert run(stage, server, "submit", pending, options=waited)[0] == 1
        code, output = run(stage, server, "kernel", options=("--resume",))
        assert code == 0 and not stage.state()["parked"], output
        code, output = run(stage, server, "datasets")
        assert code == 2 and "has not ended (submitted as" in output, output
        sha = stage.state()["blend"]
        stage.blend.write_text(stage.blend.read_text() + "\n")
        assert run(stage, server, "submit", options=("--resume",))[0] == 0
        assert_published_once(stage, server)
        assert len(sha) > 64 and sha in stage.ledger()[0]  # the row tells of the blend that was published


@pytest.mark.slow
@pytest.mark.parametrize("when", ["send_words", "differences"])
def test_weights_that_change_while_they_are_sent_are_refused(stage_at, monkeypatch, capsys, when):
    stage = stage_at(None)

    def change():
        with (stage.weights / "fold0.safetensors").open("r+b") as file:
            file.write(b"another")

    # Before the upload the words are made, after it the files are compared.
    target = (publish, "prepare_upload") if when == "send_words" else (uploads, "differences")
    real = getattr(*target)
    monkeypatch.setattr(*target, lambda *given: (real(*given), change())[0])
    with stage.kaggle() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert publish.main([*stage.words("--only", "datasets")[2:]]) == 1
        assert "The files of hms-tiny changed after they were checked" in capsys.readouterr().err
        assert stage.state()["datasets"][SLUG]["version"] is None
        monkeypatch.undo()
        stage.write_weights()
        code, output = run(stage, server, "datasets", options=("--resume",))
        assert code == 2 and "the sandbox ran other weights" in output, output


REPORTS = {
    "dropped nobody knows what": ('{"dropped": 7}', "report.json of kernel version 1 cannot be read"),
    "stale weights": ('{"manifests": {"tiny": "0f"}}', "ran other weights of tiny than were sent"),
    "a dropped fold": ('{"dropped": ["hms-tiny/fold0 is missing"]}', "left something out (hms-tiny/fold0 is missing)"),
    "an early end": ('{"failure": "no disk"}', "ended early (no disk)"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_what_the_kernel_reports_may_stop_the_submission(job, monkeypatch, name):
    report, said = REPORTS[name]
    one = job(None)
    one.output.mkdir(parents=True)
    (one.output / "submission.csv").write_text(ANSWER)
    (one.output / "report.json").write_text(report)
    monkeypatch.setattr(kernel_push, "fetch", lambda job: job.output)
    with pytest.raises(PublishError) as stopped:
        kernel_push.check_output(one)
    assert said in str(stopped.value)
    right = sha256_of(one.bundle.datasets[0].folder / "manifest.json")
    (one.output / "report.json").write_text(f'{{"manifests": {{"tiny": "{right}"}}, "dropped": []}}')
    kernel_push.check_output(one)


def test_a_kernel_that_changed_after_it_was_copied_is_not_pushed(job):
    pushed = []
    one = job(SimpleNamespace(change=lambda *words: pushed.append(words) or "pushed"))
    prepare_upload(one.bundle, OWNER, one.options.out / "upload")
    code = one.folder("hms-inference") / "kernel.py"
    assert not code.is_symlink() and code.stat().st_ino != one.bundle.kernel.code.stat().st_ino
    assert kernel_push.send_unchanged(one) == "pushed" and len(pushed) == 1
    code.write_text("another")
    with pytest.raises(PublishError, match=r"kernel\.py changed after it was checked: nothing was pushed"):
        kernel_push.send_unchanged(one)
    assert len(pushed) == 1


def test_an_old_version_in_the_answer_is_not_believed(job, monkeypatch):
    one = job(SimpleNamespace(newest_version=lambda kernel: {"version": 6}))
    monkeypatch.setattr(kernel_push, "arrived", lambda job: 7)
    for reported, version in ((6, 7), (7, 7), (8, 8), (0, 7)):
        one.state.kernel.version = one.state.kernel.expected = None
        pushed = f"Kernel version {reported} successfully pushed."
        monkeypatch.setattr(kernel_push, "send_unchanged", lambda _, printed=pushed: printed)
        kernel_push.push(one)
        assert one.state.kernel.version == version


@pytest.mark.slow
def test_a_failed_kernel_without_output_is_told_all_the_same(stage_at):
    stage = stage_at(None)
    with stage.kaggle(runner=lambda *_: {"ok": False, "message": "exit code 1", "log": "", "files": {}}) as server:
        server.faults = [Fault("ListKernelSessionOutput", "status", last=99, code=404)]
        done = stage.publish(server)
        assert done.returncode == 1 and "ended with ERROR: exit code 1" in done.stderr, done.stdout + done.stderr
        assert "its log could not be fetched" in done.stderr and stage.state()["kernel"]["failed"] == [1]


@pytest.mark.slow
def test_a_ledger_that_cannot_be_added_to_is_refused_first(stage_at):
    stage = stage_at(None)
    (stage.out).mkdir()
    for spoil in (lambda path: path.write_text("mine\n"), lambda path: path.mkdir()):
        ledger = stage.out / "ledger.csv"
        spoil(ledger)
        with stage.kaggle() as server:
            done = stage.publish(server)
            assert done.returncode == 2 and "ledger.csv" in done.stderr, done.stderr
            assert server.count("Create") == server.count("Upload") == 0
        ledger.unlink() if ledger.is_file() else ledger.rmdir()


def test_a_connection_that_breaks_before_the_comparison_does_not_count_as_compared(job, bundle, monkeypatch):
    one = job(SimpleNamespace())
    one.state.kernel.complete, compared = False, []

    def differences(*_):
        compared.append(True)
        if len(compared) == 1:
            raise KaggleError(BY_NAME["connection"], "kaggle", "it failed")
        return ["another file"]

    monkeypatch.setattr(uploads, "look", lambda *_: uploads.Remote("ready", 1))
    monkeypatch.setattr(uploads, "differences", differences)
    monkeypatch.setattr(publish, "look_before", lambda *_: None)
    monkeypatch.setattr(publish, "choose", lambda *_: one.state)
    monkeypatch.setattr(publish, "log_in", lambda _: OWNER)
    sent = []
    monkeypatch.setattr(uploads, "upload", lambda *_: sent.append(True))
    one.options.only = "datasets"
    publish.publish(one.options, None)
    assert len(compared) == 2 and sent  # what Kaggle holds is another version


WORDS = {
    "--message=-first": "does not begin with -",
    f"--message=KGAT_{'0f' * 8}": "holds a Kaggle token",
    "--message=a\nb": "one line",
    "--resend": "give --resume with it",
}


@pytest.mark.parametrize("word", WORDS)
def test_options_that_are_refused(capsys, word):
    with pytest.raises(SystemExit, match="2"):
        publish.parse(["--competition", "x", word])
    assert WORDS[word] in capsys.readouterr().err
