"""What cannot be inlined faithfully is refused: one sentence with the module, the line and the way out."""

import pytest
from test_build import BLEND, ENTRY, TREE, plant

from build import build
from building.inline import BuildError

REFUSALS = {
    "circle": (
        {"common/a.py": "from common.b import B\nA = 1\n", "common/b.py": "from common.a import A\nB = 1\n"},
        "from common.a import A",
        r"^common\.a -> common\.b -> common\.a: a circle",
    ),
    "import of a module": ({}, "import common.schema", r"write `from common\.schema import NAME`"),
    "from-import of a module": ({}, "from common import schema", r"common does not define schema"),
    "alias": ({}, "from common.schema import ELECTRODES as E", r"imports ELECTRODES as E; use ELECTRODES"),
    "star": ({}, "from common.schema import *", r"takes everything from common\.schema"),
    "relative": ({}, "from .schema import ELECTRODES", r"a relative, __future__ or __main__ import"),
    "in a function": (
        {},
        "def f():\n    from common.schema import ELECTRODES",
        r"line 2: .*inside a function",
    ),
    "unknown name": ({}, "from common.schema import LEADS", r"common\.schema does not define LEADS"),
    "other room": (
        {"train/__init__.py": "", "train/engine/loop.py": ""},
        "from train.engine.loop import x",
        r"imports train\.engine\.loop, which is in the project",
    ),
    "missing module": (
        {},
        "from common.gone import x",
        r"common\.gone: no file common/gone\.py",
    ),
    "main block": ({}, "if __name__ == '__main__':\n    pass", r"uses __name__"),
    "two definitions": (
        {"common/a.py": "def same(): ...\nA = 1\n"},
        "from common.a import A\n\n\nclass same:\n    pass",
        r"line 4: same is defined in infer\.kernel, but defined in common\.a in common\.a, line 1",
    ),
    "defined here, imported there": (
        {"common/a.py": "import json\nA = 1\n"},
        "from common.a import A\n\njson = A",
        r"json is defined in infer\.kernel, but json from outside in common\.a",
    ),
    "two imports under one name": (
        {"common/a.py": "import json as codec\nA = 1\n"},
        "import pickle as codec\nfrom common.a import A",
        r"codec is pickle from outside, but json from outside",
    ),
    "hides a builtin": ({}, "def sum(values):\n    return 0", r"sum hides Python's own sum"),
    "the kernel's own names": ({}, "BLEND = 1", r"BLEND is defined in the kernel's last lines, but"),
    "two on a line": ({}, "from common.schema import ELECTRODES; X = 1", r"two statements on one line"),
    "not Python": ({}, "def", r"infer\.kernel, line 1: not valid Python"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses(tmp_path, case):
    files, source, message = REFUSALS[case]
    plant(tmp_path, TREE | files | {"infer/kernel.py": source + ENTRY})
    with pytest.raises(BuildError, match=message):
        build(tmp_path, BLEND)
