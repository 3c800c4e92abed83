"""What publishing refuses before anything leaves the machine: every reason at once, each with what to do."""

import functools
import json
import os
import re
import subprocess

import pytest
from publish_stage import OWNER, SLUG, prepared

import build
from publishing import bundle, secret_scan
from publishing.bundle import Refused, prepare_upload, read_bundle
from publishing.secret_scan import secret_in, secret_in_file

KEY = "0f" * 16
METADATA, KERNEL = "dataset-metadata.json", "kernel-metadata.json"


@pytest.fixture(scope="module", autouse=True)
def build_once():
    """The sources do not change meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build", functools.cache(build.build))
        yield


@pytest.fixture
def stage(tmp_path_factory, tmp_path):
    return prepared(tmp_path_factory).copy(tmp_path / "stage")


def check(stage, folders=None):
    return read_bundle(stage.kernel, folders or [stage.weights], stage.blend, stage.sandbox, OWNER)


def reasons(stage, **options):
    with pytest.raises(Refused) as refused:
        check(stage, **options)
    return refused.value.reasons


def change(file, **changes):
    return lambda stage: stage.change(getattr(stage, "kernel" if file == KERNEL else "weights") / file, **changes)


def write(name, content):
    return lambda stage: (stage.weights / name).write_bytes(content)


def another_blend(**changes):
    def do(stage):
        stage.blend.write_text(json.dumps({**json.loads(stage.blend.read_text()), **changes}))
        stage.build()
        stage.pass_sandbox()

    return do


def report(**changes):
    def do(stage):
        path = stage.sandbox / "report.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return do


def manifest(**changes):
    def do(stage):
        path = stage.weights / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return do


# What is broken, and what is said of it.
REFUSED = {
    "edited kernel": (
        lambda stage: (stage.kernel / "kernel.py").open("a").write("\n# %% mine\nx = 1\n"),
        r"kernel\.py is stale\. Build it again .* the sandbox ran another kernel",
    ),
    "internet": (change(KERNEL, enable_internet=True), r"kernel-metadata\.json is stale\. Build it again"),
    "another source": (
        change(KERNEL, dataset_sources=["OWNER/hms-other"]),
        r"does not name the dataset OWNER/hms-tiny: build .* names the dataset OWNER/hms-other, which is not given",
    ),
    "no kernel": (lambda stage: (stage.kernel / "kernel.py").unlink(), r"kernel\.py, the code_file of .* is missing"),
    "kernel not JSON": (
        lambda stage: (stage.kernel / KERNEL).write_text("{"),
        r"json cannot be read .*build\.py",
    ),
    "kernel of another": (
        change(KERNEL, id="someone/hms-inference"),
        r"belongs to someone, but kaggle is logged in as",
    ),
    "weights of another": (change(METADATA, id=f"someone/{SLUG}"), r"belongs to someone, but .* newcomer: write OWNER"),
    "short slug": (change(METADATA, id="OWNER/tiny"), r"the slug tiny must be 6 to 50"),
    "no slug": (change(METADATA, id="hms-tiny"), r"cannot be read \(id: "),
    "long title": (change(METADATA, title="x" * 51), r"must be 6 to 50 characters"),
    "licences": (change(METADATA, licenses=[]), r"name exactly one licence"),
    "dataset id_no": (change(METADATA, id_no=7), r"take id_no out"),
    "folder": (lambda stage: (stage.weights / "more").mkdir(), r"holds 'more', which manifest\.json does not list"),
    "damaged weights": (
        lambda stage: (stage.weights / "fold0.safetensors").write_bytes(bytes(1024)),
        r"fold0\.safetensors does not have the manifest's sha256: damaged or swapped; export it again",
    ),
    "missing weights": (lambda stage: (stage.weights / "fold0.safetensors").unlink(), r"fold0\.safetensors is missing"),
    "other config": (write("config.json", b"{}"), r"config\.json does not have the manifest's sha256"),
    "file elsewhere": (manifest(folds=[{"file": "../x", "sha256": "", "bytes": 1}]), r"\(folds\.0\.file: "),
    "kernel that is no text": (
        lambda stage: (stage.kernel / "kernel.py").write_bytes(b"# \xe9\n"),
        r"kernel\.py is stale\. Build it again",
    ),
    "blend that is no text": (lambda stage: stage.blend.write_bytes(b'{"\xe9": 1}'), r"blend\.json: .*can't decode"),
    "unlisted": (write("kaggle.json", b"{}"), r"holds 'kaggle\.json', which manifest\.json does not list: take it out"),
    "no manifest": (lambda stage: (stage.weights / "manifest.json").unlink(), r"manifest\.json cannot be read"),
    "no sandbox": (
        lambda stage: (stage.sandbox / "report.json").unlink(),
        r"no sandbox run in .*: run python kernels/sandbox\.py .*--datasets .*hms-tiny --out",
    ),
    "failed sandbox": (report(ok=False), r"the sandbox run in .* failed"),
    "sandbox of others": (report(datasets={SLUG: "0" * 64}), r"the sandbox ran other weights of hms-tiny"),
    "old sandbox": (
        report(datasets=None),
        r"report\.json is no report of this kit's sandbox \(.*; an older one's\?\): run",
    ),
    "dropped model": (
        report(kernel={"dropped": ["hms-tiny/fold0.safetensors is missing"]}),
        r"left something out in the sandbox \(hms-tiny/fold0\.safetensors is missing\)",
    ),
    "no report": (report(kernel=None), r"the kernel left no report of its own in the sandbox: run"),
    "early end": (
        report(kernel={"failure": "out of memory", "dropped": []}),
        r"ended early in the sandbox \(out of memory\)",
    ),
    "blend of two": (another_blend(models={"tiny": 0.5, "big": 0.5}), r"names the model big, but no dataset holds it"),
    "blend of another": (another_blend(models={"big": 1.0}), r"holds tiny, which .*blend\.json does not name"),
    "no blend": (lambda stage: stage.blend.unlink(), r"make one with `python -m train blend`"),
    "secret in weights": (
        write("fold1.safetensors", bytes(5000) + b'{"username":"me","key":"' + KEY.encode() + b'"}' + bytes(5000)),
        r"fold1\.safetensors: it holds a Kaggle key; take it out",
    ),
}


def test_what_is_right_is_packed(stage):
    packed = check(stage)
    assert packed.kernel.slug == "hms-inference" and [one.model for one in packed.datasets] == ["tiny"]
    stage.blend.write_text(stage.blend.read_text().replace('"tiny": 1.0', '"tiny": 1.0 '))
    assert check(stage).kernel == packed.kernel  # the kernel is the same


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(stage, name):
    break_it, reason = REFUSED[name]
    break_it(stage)
    found = " ".join(reasons(stage))
    assert re.search(reason, found), found
    assert KEY not in found


def test_every_reason_at_once(stage):
    change(KERNEL, enable_internet=True)(stage)
    change(METADATA, title="x")(stage)
    write("id_rsa", b"x")(stage)
    found = "\n".join(reasons(stage))
    assert all(reason in found for reason in ("kernel-metadata.json is stale", "title 'x'", "id_rsa"))


def test_one_model_given_twice(stage, tmp_path):
    twin = stage.copy(tmp_path / "twin").weights
    found = " ".join(reasons(stage, folders=[stage.weights, twin]))
    assert "two datasets hold the model tiny" in found and "two datasets have the slug hms-tiny" in found


def test_a_kernel_in_git_must_be_committed(stage):
    def git(*words):
        identity = ("-c", "user.name=x", "-c", "user.email=x@x")
        subprocess.run(["git", "-C", str(stage.folder), *identity, *words], check=True, capture_output=True)

    git("init")
    check(stage)  # git does not know it: it is no kernel of a repository
    git("add", "kernel")
    assert "differs from the last commit (kernel-metadata.json, kernel.py): commit it first" in reasons(stage)[0]
    git("commit", "-m", "kernel")
    check(stage)


SECRETS = {
    f"token = KGAT_{KEY}": "a Kaggle token",
    f'{{"key": "{KEY}", "username": "me"}}': "a Kaggle key",
    f"{{'KEY' : '{KEY}'}}": "a Kaggle key",
    f"os.environ['KAGGLE_KEY'] = '{KEY}'": "a Kaggle key",
    f"KAGGLE_API_TOKEN: {KEY}": "a Kaggle key or token",
    f"https://me:{KEY}@www.kaggle.com/api": "a password in an address",
    "Authorization: Basic bWU6c2VjcmV0": "an authorization",
    "'authorization': 'Bearer abc.def-ghi'": "an authorization",
    f'{{"refresh_token": "{KEY}"}}': "a login's token",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nabc": "a private key",
    f"gh{'p'}_{KEY}ABCD": "a token of GitHub",
    f"hf{'_'}{KEY}ABCD": "a token of Hugging Face",
    f"AKIA{'IOSFODNN7'}EXAMPLE": "a key of a cloud",
    f"sk{'-'}proj-{KEY}": "an API key",
}


@pytest.mark.parametrize("text", SECRETS, ids=range(len(SECRETS)))
def test_secrets_are_found_wherever_they_lie(tmp_path, text):
    for before in (0, 1, 10_001):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            between = os.urandom(before) + b"\n" * 2
            (tmp_path / "x.bin").write_bytes(between + text.encode(encoding) + b"\n\n" + os.urandom(100))
            assert SECRETS[text] in secret_in_file(tmp_path / "x.bin")


def test_a_token_at_either_end_of_large_weights_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(secret_scan, "AT_BOTH_ENDS", 1000)
    for at in (0, 900, 9_001, 9_950):
        content = bytearray(10_000)
        content[at : at + 40] = f"KGAT_{KEY}".encode().ljust(40)
        (tmp_path / "x.safetensors").write_bytes(content)
        assert secret_in_file(tmp_path / "x.safetensors") == "a Kaggle token"


HARMLESS = (
    '{"sha256": "' + "0f" * 32 + '", "key": "value"}',
    *("KAGGLE_KEY", f'"monkey": "{KEY}"', "KGAT_", "", "https://www.kaggle.com/me:x", "authorization: basic", "hf_hub"),
    "the disk-" + "x" * 40 + " access_token = load()",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_secret_passes(text):
    assert secret_in(text.encode()) is None


def test_the_owner_is_filled_into_copies_only(stage, monkeypatch):
    packed, before, upload = check(stage), (stage.weights / METADATA).read_text(), stage.folder / "upload"
    for linked in (True, False):
        if not linked:  # as between two file systems
            monkeypatch.setattr(bundle.os, "link", lambda *_: (_ for _ in ()).throw(OSError("cross-device link")))
        prepare_upload(packed, "me", upload)
        metadata = json.loads((upload / "hms-inference" / KERNEL).read_text())
        assert (metadata["id"], metadata["dataset_sources"]) == ("me/hms-inference", [f"me/{SLUG}"])
        weights = upload / SLUG
        assert json.loads((weights / METADATA).read_text())["id"] == f"me/{SLUG}"
        assert {path.name for path in weights.iterdir()} == {path.name for path in stage.weights.iterdir()}
        same = (weights / "fold0.safetensors").stat().st_ino == (stage.weights / "fold0.safetensors").stat().st_ino
        assert same and (weights / "fold0.safetensors").is_symlink() is not linked  # not a copy of gigabytes
    assert (stage.weights / METADATA).read_text() == before
