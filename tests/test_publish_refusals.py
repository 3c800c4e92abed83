"""What publishing refuses before anything leaves the machine: every reason at once, each with what to do."""

import json
import os
import re
import subprocess

import pytest
from publish_stage import OWNER, SLUG, Stage

import publishing.bundle as parcel
from publishing import leaks
from publishing.bundle import Refused, pack
from publishing.bundle import stage as lay_out
from publishing.secret_scan import secret_in, secret_in_text

KEY = "0f" * 16
METADATA, KERNEL = "dataset-metadata.json", "kernel-metadata.json"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return Stage(tmp_path_factory.mktemp("stage") / "stage").prepare()


@pytest.fixture
def stage(prepared, tmp_path):
    return prepared.copy(tmp_path / "stage")


def check(stage, folders=None, owner=OWNER, public=False, max_gb=20.0):
    return pack(stage.kernel, folders or [stage.weights], stage.blend, stage.sandbox, owner, public, max_gb)


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
        r"kernel\.py is stale in: run, mine\. Build it again .* the sandbox ran another kernel",
    ),
    "other blend": (
        lambda stage: stage.blend.write_text(stage.blend.read_text().replace('"tiny": 1.0', '"tiny": 1.0 ')),
        None,  # white space only: the kernel is the same
    ),
    "internet": (change(KERNEL, enable_internet=True), r"enable_internet is not false"),
    "public kernel": (change(KERNEL, is_private=False), r"the kernel would be public"),
    "title": (change(KERNEL, title="Another"), r"the title 'Another' does not make the slug hms-inference"),
    "kernel id_no": (change(KERNEL, id_no=7), r"take id_no out"),
    "another source": (
        change(KERNEL, dataset_sources=["OWNER/hms-other"]),
        r"does not name the dataset OWNER/hms-tiny: build .* names the dataset OWNER/hms-other, which is not given",
    ),
    "no competition": (change(KERNEL, competition_sources=[]), r"competition_sources must name exactly one"),
    "no kernel": (lambda stage: (stage.kernel / "kernel.py").unlink(), r"kernel\.py, the code_file of .* is missing"),
    "kernel not JSON": (lambda stage: (stage.kernel / KERNEL).write_text("{"), r"is not JSON .*build\.py writes it"),
    "kernel of another": (
        change(KERNEL, id="someone/hms-inference"),
        r"belongs to someone, but kaggle is logged in as",
    ),
    "weights of another": (change(METADATA, id=f"someone/{SLUG}"), r"belongs to someone, but .* newcomer: write OWNER"),
    "short slug": (change(METADATA, id="OWNER/tiny"), r"the slug tiny must be 6 to 50"),
    "underscore": (change(METADATA, id="OWNER/hms_tiny"), r"the slug hms_tiny must be"),
    "no slug": (change(METADATA, id="hms-tiny"), r'"id" is .hms-tiny.; write "OWNER/SLUG"'),
    "long title": (change(METADATA, title="x" * 51), r"must be 6 to 50 characters of your own"),
    "sources that are no list": (change(KERNEL, dataset_sources=7), r'"dataset_sources" is 7; write a list'),
    "placeholder": (change(METADATA, title="INSERT_TITLE_HERE"), r"characters of your own"),
    "subtitle": (change(METADATA, subtitle="short"), r"the subtitle 'short' must be 20 to 80"),
    "licences": (change(METADATA, licenses=[]), r"name exactly one licence"),
    "dataset id_no": (change(METADATA, id_no=7), r"take id_no out"),
    "folder": (lambda stage: (stage.weights / "more").mkdir(), r"holds more: kaggle drops folders .* make it flat"),
    "archive": (write("more.zip", b"PK"), r"more\.zip would be left out or unpacked"),
    "kept by kaggle": (write("kernel-metadata.json", b"{}"), r"kernel-metadata\.json would be left out"),
    "damaged weights": (
        lambda stage: (stage.weights / "fold0.safetensors").write_bytes(bytes(1024)),
        r"fold0\.safetensors does not have the manifest's sha256: damaged or swapped; export it again",
    ),
    "short weights": (write("fold0.safetensors", b"x"), r"has 1 bytes, the manifest says 1,024"),
    "missing weights": (lambda stage: (stage.weights / "fold0.safetensors").unlink(), r"fold0\.safetensors is missing"),
    "other config": (write("config.json", b"{}"), r"config\.json does not have the manifest's sha256"),
    "manifest that is a list": (
        write("manifest.json", b"[]"),
        r"manifest\.json cannot be read \(JSON: .*export it again",
    ),
    "manifest of lists": (manifest(name=["tiny"]), r"manifest\.json cannot be read \(name: "),
    "manifest of numbers": (
        manifest(folds=[{"file": 7, "sha256": "", "bytes": 1}]),
        r"cannot be read \(folds\.0\.file: ",
    ),
    "manifest of texts": (manifest(folds=[{"file": "x", "sha256": "", "bytes": "ten"}]), r"\(folds\.0\.bytes: "),
    "file elsewhere": (manifest(folds=[{"file": "../x", "sha256": "", "bytes": 1}]), r"\(folds\.0\.file: "),
    "deep manifest": (write("manifest.json", b"[" * 100_000), r"manifest\.json cannot be read"),
    "deep metadata": (write(METADATA, b"[" * 100_000), r"dataset-metadata\.json is not JSON"),
    "half a letter": (write(METADATA, b'{"id": "OWNER/hms-tiny", "title": "\\ud800"}'), r"metadata\.json is not JSON"),
    "a name that is no text": (
        lambda stage: (stage.weights / os.fsdecode(b"x\xff")).touch(),
        r"holds 'x.*': rename what is no UTF-8",
    ),
    "kernel that is no text": (
        lambda stage: (stage.kernel / "kernel.py").write_bytes(b"# \xe9\n"),
        r"kernel cannot be read \(.*Build it again",
    ),
    "blend that is no text": (lambda stage: stage.blend.write_bytes(b'{"\xe9": 1}'), r"blend\.json: .*can't decode"),
    "no manifest": (lambda stage: (stage.weights / "manifest.json").unlink(), r"manifest\.json cannot be read"),
    "no sandbox": (
        lambda stage: (stage.sandbox / "report.json").unlink(),
        r"no sandbox run in .*: run python kernels/sandbox\.py .*--datasets .*hms-tiny --out",
    ),
    "failed sandbox": (report(ok=False), r"the sandbox run in .* failed"),
    "sandbox of others": (report(datasets={SLUG: "0" * 64}), r"the sandbox ran other weights of hms-tiny"),
    "sandbox of more": (report(datasets={"hms-more": "0" * 64}), r"other weights of hms-more, hms-tiny"),
    "old sandbox": (
        report(datasets=None),
        r"report\.json is no report of this kit's sandbox \(.*; an older one's\?\): run",
    ),
    "dropped model": (
        report(kernel={"dropped": ["hms-tiny/fold0.safetensors is missing"]}),
        r"left something out in the sandbox \(hms-tiny/fold0\.safetensors is missing\)",
    ),
    "no report": (report(kernel=None), r"the kernel left no report of its own in the sandbox: run"),
    "report that is none": (report(kernel="fine"), r"the kernel left no report of its own in the sandbox: run"),
    "dropped nobody knows what": (report(kernel={"dropped": None}), r"left no report of its own"),
    "early end": (report(kernel={"failure": "out of memory"}), r"ended early in the sandbox \(out of memory\)"),
    "blend of two": (another_blend(models={"tiny": 0.5, "big": 0.5}), r"names the model big, but no dataset holds it"),
    "blend of another": (another_blend(models={"big": 1.0}), r"holds tiny, which .*blend\.json does not name"),
    "no blend": (lambda stage: stage.blend.unlink(), r"make one with `python -m train blend`"),
    "secret file": (write("kaggle.json", b"{}"), r"kaggle\.json: its name is that of a file with credentials; take"),
    "secret in weights": (
        write("fold1.safetensors", bytes(5000) + b'{"username":"me","key":"' + KEY.encode() + b'"}' + bytes(5000)),
        r"fold1\.safetensors: it holds a Kaggle key \(at byte 5,\d+\)",
    ),
}


def test_what_is_right_is_packed(stage):
    packed = check(stage)
    assert packed.kernel.slug == "hms-inference" and [one.model for one in packed.datasets] == ["tiny"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(stage, name):
    break_it, said = REFUSED[name]
    break_it(stage)
    if said is None:
        check(stage)
        return
    found = reasons(stage)
    assert re.search(said, " ".join(found)), found
    assert KEY not in " ".join(found)


def test_every_reason_at_once(stage):
    change(KERNEL, enable_internet=True)(stage)
    change(METADATA, title="x")(stage)
    write("id_rsa", b"x")(stage)
    found = "\n".join(reasons(stage))
    assert all(said in found for said in ("enable_internet", "title 'x'", "id_rsa"))


def test_limits_and_options(stage, prepared):
    assert "0.00 GB together, more than --max-gb 1e-09" in reasons(stage, max_gb=1e-9)[0]
    found = " ".join(reasons(stage, folders=[stage.weights, prepared.weights]))
    assert "two datasets hold the model tiny" in found and "two datasets have the slug hms-tiny" in found
    change(KERNEL, is_private=False)(stage)
    assert "would be public" not in " ".join(reasons(stage, public=True))  # only that it is not what was built


def test_a_large_kernel_is_refused(stage):
    (stage.kernel / "kernel.py").open("a").write("#" * 1_000_000)
    assert any("bytes; Kaggle takes 1,000,000" in reason for reason in reasons(stage))


def test_a_kernel_in_git_must_be_committed(stage):
    def git(*words):
        identity = ("-c", "user.name=x", "-c", "user.email=x@x")
        subprocess.run(["git", "-C", str(stage.folder), *identity, *words], check=True, capture_output=True)

    git("init")
    check(stage)  # git does not know it: it is no kernel of a repository
    config = stage.folder / ".git" / "config"
    sound = config.read_text()
    config.write_text("[core")
    assert "git does not tell whether" in reasons(stage)[0]  # as of a repository that is another user's
    config.write_text(sound)
    git("add", "kernel")
    assert "differs from the last commit (kernel-metadata.json, kernel.py): commit it first" in reasons(stage)[0]
    git("commit", "-m", "kernel")
    check(stage)


SECRETS = {
    f"token = KGAT_{KEY}": "a Kaggle token",
    f"token = kgat_{KEY.upper()}": "a Kaggle token",
    f'{{"key": "{KEY}", "username": "me"}}': "a Kaggle key",
    f"{{'KEY' : '{KEY}'}}": "a Kaggle key",
    f"export KAGGLE_KEY={KEY}": "a Kaggle key",
    f"os.environ['KAGGLE_KEY'] = '{KEY}'": "a Kaggle key",
    f"KAGGLE_API_TOKEN: {KEY}": "a Kaggle key or token",
    f"Kaggle_Token={KEY}": "a Kaggle key or token",
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
    for before in (0, 1, 10**6 + 1):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            between = os.urandom(before) + b"\n" * 2
            (tmp_path / "x.bin").write_bytes(between + text.encode(encoding) + b"\n\n" + os.urandom(100))
            found = secret_in(tmp_path / "x.bin")
            assert found and SECRETS[text] in found and KEY not in found
    assert SECRETS[text] in secret_in_text(f"best {text}")


def test_a_token_deep_in_large_weights_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(leaks, "READ_WHOLE", 1000)
    for at in (0, 500_000, 999_900):
        content = bytearray(10**6)
        content[at : at + 40] = f"KGAT_{KEY}".encode().ljust(40)
        (tmp_path / "x.safetensors").write_bytes(content)
        assert "a Kaggle token" in secret_in(tmp_path / "x.safetensors")


NAMES_OF_SECRETS = (
    *("kaggle.json", "kaggle.json.bak", "access_token", "access_token.txt", ".env", ".env.local", "prod.env"),
    *("credentials.json", ".netrc", "_netrc", ".git-credentials", ".npmrc", "a.PEM", "server.key", "me.p12"),
)


@pytest.mark.parametrize("name", NAMES_OF_SECRETS)
def test_names_of_secrets(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert secret_in(tmp_path / name)


HARMLESS = (
    '{"sha256": "' + "0f" * 32 + '", "key": "value"}',
    *("KAGGLE_KEY", f'"monkey": "{KEY}"', "KGAT_", "", "https://www.kaggle.com/me:x", "authorization: basic", "hf_hub"),
    "the disk-" + "x" * 40 + " access_token = load()",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_secret_passes(tmp_path, text):
    (tmp_path / "x").write_text(text)
    assert secret_in(tmp_path / "x") is None


def test_the_owner_is_filled_into_copies_only(stage, monkeypatch):
    packed, before = check(stage), (stage.weights / METADATA).read_text()
    for linked in (True, False):
        if not linked:  # as between two file systems
            monkeypatch.setattr(parcel.os, "link", lambda *_: (_ for _ in ()).throw(OSError("cross-device link")))
        places = lay_out(packed, "me", stage.folder / "upload")
        kernel, weights = places["hms-inference"], places[SLUG]
        metadata = json.loads((kernel / KERNEL).read_text())
        assert (metadata["id"], metadata["dataset_sources"]) == ("me/hms-inference", [f"me/{SLUG}"])
        assert json.loads((weights / METADATA).read_text())["id"] == f"me/{SLUG}"
        assert {path.name for path in weights.iterdir()} == {path.name for path in stage.weights.iterdir()}
        same = (weights / "fold0.safetensors").stat().st_ino == (stage.weights / "fold0.safetensors").stat().st_ino
        assert same and (weights / "fold0.safetensors").is_symlink() is not linked  # not a copy of gigabytes
    assert (stage.weights / METADATA).read_text() == before
