"""Never two submissions, never other bytes than were checked, never a submission without its row."""

import json
from types import SimpleNamespace

import pytest
from publish_stage import OWNER, SLUG, Stage, assert_published_once, parked, publish

from common.errors import KitError
from common.files import sha256_of
from kaggle_server import Fault
from publishing import pushes, uploads
from publishing.bundle import pack
from publishing.job import Job, PublishError
from publishing.kaggle_command import KaggleError
from publishing.kaggle_failures import BY_NAME
from publishing.state import begin, load
from publishing.submission import submit

UNKNOWN = Fault("GetSubmissionLimits", "instead", last=99, body={})
UNLISTED = Fault("ListSubmissions", "instead", last=99, body={"submissions": []})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return Stage(tmp_path_factory.mktemp("stage") / "stage").prepare()


@pytest.fixture(scope="module")
def with_kernel(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    return parked(parked(prepared, folder / "datasets", "datasets"), folder / "stage", "kernel")


@pytest.fixture
def stage(with_kernel, tmp_path):
    return with_kernel.copy(tmp_path / "stage")


@pytest.fixture
def bare(prepared, tmp_path):
    return prepared.copy(tmp_path / "stage")


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


@pytest.fixture
def submitting(prepared, tmp_path):
    """A publication that is about to submit kernel version 3, on a Kaggle that is made up."""
    packed = pack(prepared.kernel, [prepared.weights], prepared.blend, prepared.sandbox, OWNER, False, 20.0)
    publication = begin(packed, OWNER, None, "")
    publication.kernel.version, publication.kernel.complete = 3, True

    def job(kaggle, resend=False):
        state = tmp_path / "publication.json"
        kept = load(state) or publication
        return Job(kaggle, packed, kept, state, {}, tmp_path, tmp_path, tmp_path / "l.csv", 0.0, 1.0, False, resend)

    return job


CASES = {  # what becomes of each attempt, whether Kaggle counts, what a look at its list says, and attempts in all
    "rights, while looking": (["arrives lost"], True, ["rules"], 1),
    "login, while looking": (["arrives lost"], True, [None, None, "credentials"], 1),
    "a list that lags": (["arrives lost"], True, [], 1),
    "a refusal of the repetition": (["arrives lost", "refused"], True, [], 1),
    "lost on the way there": (["lost", "arrives lost"], True, [], 2),
    "no count": (["arrives lost"], False, [], 1),
    "no count, lost on the way there": (["lost"], False, [], 1),
    "refused without a count": (["refused"], False, [], 1),
}


@pytest.mark.parametrize("name", CASES)
def test_no_second_submission_while_the_first_may_have_arrived(submitting, name):
    sends, counts, looks, attempts = CASES[name]
    kaggle = FakeKaggle(*sends, "arrives", counts=counts, looks=looks)
    for _ in range(3):  # and --resume twice
        with pytest.raises(KitError):
            submit(submitting(kaggle))
        kaggle.looks = []
        assert submitting(kaggle).publication.submission.asked
    assert len(sends) + 1 - len(kaggle.sends) == attempts and len(kaggle.sent) <= 1
    kaggle.listed = True
    job = submitting(kaggle, resend=True)
    submit(job)  # found, or, as the user says that there is none, sent
    assert job.publication.submission.ref == 7 and len(kaggle.sent) == 1


def test_what_was_refused_is_sent_again_where_the_count_tells_that_it_did_not_arrive(submitting):
    kaggle = FakeKaggle("refused", "arrives")
    with pytest.raises(KaggleError):
        submit(submitting(kaggle))
    job = submitting(kaggle)
    submit(job)
    assert job.publication.submission.ref == 7 and len(kaggle.sent) == 1


def test_without_a_count_only_the_user_sends_again(stage):
    with stage.kaggle() as server:
        faults = Fault("CreateCodeSubmission", "drop"), Fault(**vars(UNKNOWN)), Fault(**vars(UNLISTED))
        code, output = publish(stage, server, "submit", *faults)
        assert code == 1 and "does not tell how many submissions there are" in output, output
        assert "--resume --resend sends it again" in output and server.submissions == []
        code, output = publish(stage, server, "submit", Fault(**vars(UNKNOWN)), options=("--resume", "--resend"))
        assert code == 0, output
        assert_published_once(stage, server)
        assert stage.publish(server, "--resend").returncode == 2


def test_a_submission_without_scores_is_not_left_behind(stage):
    with stage.kaggle() as server:
        pending = Fault("/GetSubmission", "instead", nth=1, last=999, body={"ref": 1, "status": "PENDING"})
        waited = ("--wait-minutes", "0.02")
        assert publish(stage, server, "submit", pending, options=waited)[0] == 1
        code, output = publish(stage, server, "kernel", options=("--resume",))
        assert code == 0 and not stage.state()["parked"], output
        code, output = publish(stage, server, "datasets")
        assert code == 2 and "has not ended (submitted as" in output, output
        assert publish(stage, server, "submit", options=("--resume",))[0] == 0
        assert_published_once(stage, server)


def test_the_row_tells_of_the_blend_that_was_published(stage):
    with stage.kaggle() as server:
        pending = Fault("/GetSubmission", "instead", nth=1, last=999, body={"ref": 1, "status": "PENDING"})
        assert publish(stage, server, "submit", pending, options=("--wait-minutes", "0.02"))[0] == 1
        sha = stage.state()["blend"]
        stage.blend.write_text(stage.blend.read_text() + "\n")
        assert publish(stage, server, "submit", options=("--resume",))[0] == 0
        assert len(sha) > 64 and sha in stage.ledger()[0]


@pytest.mark.parametrize("when", ["send_words", "differences"])
def test_weights_that_change_while_they_are_sent_are_refused(bare, monkeypatch, capsys, when):
    import publish as publisher

    def change():
        with (bare.weights / "fold0.safetensors").open("r+b") as file:
            file.write(b"another")

    # Before the upload the words are made, after it the files are compared.
    target = (publisher, "stage") if when == "send_words" else (uploads, "differences")
    real = getattr(*target)
    monkeypatch.setattr(*target, lambda *given: (real(*given), change())[0])
    with bare.kaggle() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert publisher.main([*bare.words("--only", "datasets")[2:]]) == 1
        assert "The files of hms-tiny changed after they were checked" in capsys.readouterr().err
        assert bare.state()["datasets"][SLUG]["version"] is None
        monkeypatch.undo()
        bare.write_weights()
        code, output = publish(bare, server, "datasets", options=("--resume",))
        assert code == 2 and "the sandbox ran other weights" in output, output


def test_the_kernel_that_is_pushed_is_a_copy(stage):
    code = stage.out / "upload" / "hms-inference" / "kernel.py"
    assert not code.is_symlink() and code.stat().st_ino != (stage.kernel / "kernel.py").stat().st_ino


REPORTS = {
    "dropped nobody knows what": ('{"dropped": 7}', "report.json of kernel version 1 cannot be read"),
    "stale weights": ('{"manifests": {"tiny": "0f"}}', "ran other weights of tiny than were sent"),
    "a dropped fold": ('{"dropped": ["hms-tiny/fold0 is missing"]}', "left something out (hms-tiny/fold0 is missing)"),
    "an early end": ('{"failure": "no disk"}', "ended early (no disk)"),
    "no report": ("[1, 2", "report.json of kernel version 1 cannot be read"),
    "a list": ("[1]", "report.json of kernel version 1 cannot be read"),
}


@pytest.fixture
def job(prepared, tmp_path):
    """A publication whose datasets are there, with nothing but Kaggle's answers missing."""
    dataset = SimpleNamespace(model="tiny", folder=prepared.weights)
    facts = SimpleNamespace(expected=None, version=None, failed=[], complete=False)
    publication = SimpleNamespace(kernel_slug="hms-inference", kernel=facts)
    return SimpleNamespace(
        publication=publication,
        parcel=SimpleNamespace(datasets=[dataset]),
        competition=prepared.competition,
        kernel="newcomer/hms-inference",
        say=lambda *_: None,
        save=lambda: None,
        published=tmp_path,
    )


@pytest.mark.parametrize("name", REPORTS)
def test_what_the_kernel_reports_may_stop_the_submission(job, prepared, monkeypatch, name):
    report, said = REPORTS[name]
    (job.published / "submission.csv").write_text((prepared.folder / "submission.csv").read_text())
    (job.published / "report.json").write_text(report)
    monkeypatch.setattr(pushes, "fetch", lambda job: job.published)
    job.publication.kernel.version = 1
    with pytest.raises(PublishError) as stopped:
        pushes.check_output(job)
    assert said in str(stopped.value)
    right = sha256_of(prepared.weights / "manifest.json")
    (job.published / "report.json").write_text(f'{{"manifests": {{"tiny": "{right}"}}, "dropped": []}}')
    pushes.check_output(job)


def test_a_kernel_that_changed_after_it_was_laid_out_is_not_pushed(job, tmp_path):
    place, pushed = tmp_path / "upload", []
    place.mkdir()
    (place / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    (place / "kernel.py").write_text("checked")
    job.places = {"hms-inference": place}
    job.publication.kernel_sha256 = sha256_of(place / "kernel.py")
    job.kaggle = SimpleNamespace(change=lambda *words: pushed.append(words) or "pushed")
    assert pushes.send_unchanged(job) == "pushed" and len(pushed) == 1
    (place / "kernel.py").write_text("another")
    with pytest.raises(PublishError, match=r"kernel\.py changed after it was checked: nothing was pushed"):
        pushes.send_unchanged(job)
    assert len(pushed) == 1


def test_an_old_version_in_the_answer_is_not_believed(job, monkeypatch):
    job.kaggle = SimpleNamespace(newest_version=lambda kernel: {"version": 6})
    monkeypatch.setattr(pushes, "arrived", lambda job: 7)
    for told, version in ((6, 7), (7, 7), (8, 8), (0, 7)):
        job.publication.kernel.version = job.publication.kernel.expected = None
        job.send = lambda *_, told=told: f"Kernel version {told} successfully pushed."
        pushes.push(job)
        assert job.publication.kernel.version == version


def test_a_failed_kernel_without_output_is_told_all_the_same(bare):
    with bare.kaggle(runner=lambda *_: {"ok": False, "message": "exit code 1", "log": "", "files": {}}) as server:
        server.faults = [Fault("ListKernelSessionOutput", "status", last=99, code=404)]
        done = bare.publish(server)
        assert done.returncode == 1 and "ended with ERROR: exit code 1" in done.stderr, done.stdout + done.stderr
        assert "its log could not be fetched" in done.stderr and bare.state()["kernel"]["failed"] == [1]


def test_a_ledger_that_cannot_be_added_to_is_refused_first(bare):
    (bare.out).mkdir()
    for spoil in (lambda path: path.write_text("mine\n"), lambda path: path.mkdir()):
        ledger = bare.out / "ledger.csv"
        spoil(ledger)
        with bare.kaggle() as server:
            done = bare.publish(server)
            assert done.returncode == 2 and "ledger.csv" in done.stderr, done.stderr
            assert server.count("Create") == server.count("Upload") == 0
        ledger.unlink() if ledger.is_file() else ledger.rmdir()


def test_a_dry_run_tells_of_an_unfinished_publication(bare):
    with bare.kaggle() as server:
        server.rules.rules_accepted = False
        assert bare.publish(server).returncode == 1
        done = bare.publish(server, "--dry-run")
        assert done.returncode == 2 and "has not ended" in done.stderr
        assert "nothing was sent" in bare.publish(server, "--dry-run", "--resume").stdout


MESSAGES = {"-first": "does not begin with -", f"KGAT_{'0f' * 8}": "holds a Kaggle token", "a\nb": "one line"}


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_that_are_refused(bare, message):
    with bare.kaggle() as server:
        done = bare.publish(server, f"--message={message}")
        assert done.returncode == 2 and MESSAGES[message] in done.stderr and server.requests == []


def test_a_message_in_any_letters_can_be_told(stage):
    with stage.kaggle() as server:
        stage.publish(
            server, "--only", "submit", "--message", "größer", env=server.environment(PYTHONIOENCODING="ascii")
        )
        assert server.submissions[0]["description"].startswith("größer [") and len(stage.ledger()) == 1


def test_notes_of_a_failed_upload_are_forgotten(bare):
    """kaggle goes on from its notes even where the server no longer knows of that upload."""
    with bare.kaggle() as server:
        code, output = publish(bare, server, "datasets", Fault("PUT /upload/fold0", "status", code=400, last=99))
        assert code == 1 and not (bare.out / "kaggle").exists(), output
        assert publish(bare, server, "datasets", options=("--resume",))[0] == 0
    assert (bare.out / "kaggle").is_dir()
