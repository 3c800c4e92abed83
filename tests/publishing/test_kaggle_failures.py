"""The table of failures: what kaggle prints, in its own words, leads to the right row; answers lead to none."""

import sys

import pytest
from publish_stage import KERNELS

import publishing.kaggle_command as kaggle_command
from publishing.kaggle_command import Kaggle, KaggleError, as_json, entries_in, hide_secrets, log_in
from publishing.kaggle_failures import FAILURES, recognise

HINT_403 = "\n\nYou don't have access to this resource.\nIf this is a competition, you may need to accept its rules"
HINT_404 = "\n\nThe resource was not found. Check the spelling of the reference you passed."
HINT_5XX = "\n\nThis is a problem on Kaggle's side, not with your command. Please try again later."
URL = "for url: http://localhost/api/v1/x"
INVALID = "The following are not valid {} and could not be added to the kernel: ['a/b']"
# Row, the command, its exit code, what it printed.
PRINTED = [
    ("not installed", "datasets status a/b", 127, "sh: 1: kaggle: command not found"),
    ("module missing", "datasets status a/b", 1, "ModuleNotFoundError: No module named 'six'"),
    ("interrupted", "kernels push -p x", 0, "User cancelled operation"),
    ("credentials", "kernels push -p x", 1, "Authentication required to call the Kaggle API.\n\nFirst, you will need"),
    ("rate limit", "kernels push -p x", 1, "Slow down\n\nYou have been rate limited. Wait a little while"),
    ("server", "kernels status a/b", 1, f"Oops{HINT_5XX}"),
    ("server", "kernels output a/b", 1, f"502 Server Error: Bad Gateway {URL}"),
    ("connection", "kernels push -p x", 1, "HTTPSConnectionPool(host='x', port=443): Max retries exceeded with url: /"),
    (
        "connection",
        "kernels push -p x",
        1,
        "('Connection aborted.', RemoteDisconnected('Remote end closed connection'))",
    ),
    ("no answer", "kernels push -p x", 1, "no answer within 300 s"),
    ("upload failed", "datasets version -p x", 0, "Starting upload for file f\nUpload unsuccessful: f.safetensors"),
    ("dataset name taken", "datasets create -p x", 0, 'Dataset creation error: The slug "b" is already in use'),
    ("dataset refused", "datasets version -p x", 0, "Dataset version creation error: No space"),
    ("dataset source dropped", "kernels push -p x", 0, INVALID.format("dataset sources")),
    (
        "competition source dropped",
        "kernels push -p x",
        0,
        f"{INVALID.format('competition sources')}\nKernel version 3 successfully pushed.  Please check progress at x",
    ),
    ("kernel title taken", "kernels push -p x", 0, "Kernel push error: title already in use"),
    ("kernel not found", "kernels push -p x", 0, "Kernel push error: Notebook not found"),
    ("gpu quota", "kernels push -p x", 0, "Kernel push error: Maximum batch GPU session count of 2 reached."),
    ("push refused", "kernels push -p x", 0, "Kernel push error: see previous output"),
    ("kernel not accessible", "kernels status a/b/1", 1, "Cannot access kernel 'a/b/1' (Permission 'kernels.get' was"),
    ("daily limit", "competitions submit c", 1, "You have used all your daily submissions"),
    ("daily limit", "competitions submit c", 1, "Submission not allowed: You have reached your daily submission limit"),
    ("version not complete", "competitions submit c", 1, "Notebook version is not complete"),
    ("submission refused", "competitions submit c", 1, f"400 Client Error: Bad Request {URL}"),
    ("submission target", "competitions submit c", 1, "Could not find competition or notebook - please verify"),
    ("rules", "competitions submit c", 1, f"You must accept this competition's rules{HINT_403}"),
    ("forbidden", "datasets status a/b", 1, f"Permission 'datasets.get' was denied{HINT_403}"),
    ("not found", "kernels output a/b/9", 1, f"Not found: version 9{HINT_404}"),
    ("unknown", "kernels push -p x", 1, "Segmentation fault"),
]
ANSWERS = [
    ("datasets files a/b", '[\n  {\n    "name": "Kernel push error: 429 Client Error"\n  }\n]'),
    (
        "competitions submissions c",
        '[\n  {\n    "description": "User cancelled operation, daily limit, internet"\n  }\n]',
    ),
    ("competitions submissions c", "No submissions found"),
    ("kernels push -p x", "Kernel version 3 successfully pushed.  Please check progress at https://x"),
    ("competitions submit c -m 500", "Submission ref: 7\n4 submissions remaining today.\nSuccessfully submitted to c"),
    (
        "datasets create -p x",
        "Upload successful: f (1KB)\nYour private Dataset is being created. Please check progress",
    ),
    ("kernels status a/b", 'a/b has status "KernelWorkerStatus.ERROR"\nFailure message: "Connection aborted, 503"'),
]


@pytest.mark.parametrize(("name", "command", "code", "printed"), PRINTED)
def test_each_row_is_recognised(name, command, code, printed):
    failure, what = recognise(command, printed, code)
    assert failure.name == name and "\\1" not in what and failure.do


def test_every_row_is_tested():
    tested = {name for name, *_ in PRINTED}
    assert {failure.name for failure in FAILURES} - tested == set()


def test_the_page_shows_the_table():
    page = (KERNELS.parent / "docs" / "publishing.md").read_text()
    for row in FAILURES:
        assert f"| {row.name} | {row.what.replace(chr(92) + '1', '…')} | {row.do} |" in page


@pytest.mark.parametrize(("command", "printed"), ANSWERS)
def test_what_an_answer_says_is_no_failure(command, printed):
    assert recognise(command, f"Warning: Looks like you're using an outdated `kaggle`\n{printed}", 0) is None


def test_json_behind_warnings():
    assert as_json("Warning: outdated\nNext Page Token = x\n[\n 1\n]\n") == [1]
    assert as_json('[notice] there is a newer version\n[{"ref": 1}]') == [{"ref": 1}]
    assert entries_in("[notice] x\nNo submissions found\n", "kaggle x") == []
    for unreadable in ("<html>busy</html>", "", '{"ref": 1}'):
        with pytest.raises(KaggleError, match="neither a list nor that there is nothing"):
            entries_in(unreadable, "kaggle x")
    assert as_json('Using competition: c\n{"status": "ready"}') == {"status": "ready"}
    assert as_json("No submissions found\n") is None and as_json("[broken") is None


def test_secrets_are_hidden():
    shown = hide_secrets(f"KGAT_abc123 Basic dXNlcjprZXk= key {'0f' * 16} sha256 {'0f' * 32}")
    assert shown == f"[hidden] [hidden] key [hidden] sha256 {'0f' * 32}"


def test_kaggle_is_looked_for_beside_python_then_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(KaggleError, match=r"not installed.\nInstall it into this environment: pip install"):
        kaggle_command.find_kaggle()
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "kaggle"
    tool.write_text("#!/bin/sh\necho Kaggle CLI 2.2.4\n")
    tool.chmod(0o755)
    assert kaggle_command.find_kaggle() == str(tool)
    with pytest.raises(KaggleError, match=r"'Kaggle CLI 2.2.4'; 2.2.5 or newer is needed"):
        log_in(Kaggle(pause=0))


def test_a_server_that_never_answers_is_asked_again(tmp_path, monkeypatch, capsys):
    """The client itself would wait for ever."""
    (tmp_path / "kaggle").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "kaggle").chmod(0o755)
    monkeypatch.setattr(kaggle_command, "READ_SECONDS", 1)
    monkeypatch.setattr(kaggle_command, "GROWTH", (0,))
    with pytest.raises(KaggleError, match="Kaggle did not answer within 1 s"):
        Kaggle(pause=0, executable=str(tmp_path / "kaggle")).read("datasets", "status", "newcomer/hms-tiny")
    assert "Again in 0 s" in capsys.readouterr().out
