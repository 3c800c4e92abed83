"""Commands made of typed functions: what `python -m train` and `python -m infer` share.

A function's signature is what may be typed, its docstring is the help. Help and errors are plain text on any output.
"""

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, Token

from common.errors import KitError
from common.memory import keep_freed_memory

# ---- what words mean


def Help(text: str) -> Parameter:
    """What --help says of a parameter."""
    return Parameter(help=text)


def whole_number(_: Any, tokens: Sequence[Token]) -> int:
    """The library itself would round 2.5."""
    text = tokens[0].value
    if not text.removeprefix("-").isdecimal():
        raise ValueError(f"{text} is not a whole number")
    return int(text)


def at_least_one(_: Any, value: int | None) -> None:
    """Raises ValueError for 0 and below."""
    if value is not None and value < 1:
        raise ValueError(f"{value} is not a whole number from 1")


Whole = Annotated[int, Parameter(converter=whole_number)]
Count = Annotated[int, Parameter(converter=whole_number, validator=at_least_one)]


# ---- help


NO_DEFAULTS = ("None", "False", "()")  # which nobody needs to read


class PlainHelp:
    """Writes help as lines of plain text; the library's own is made for terminals."""

    def say(self, text: Any, indent: str = "", hanging: str = "") -> None:
        width = min(shutil.get_terminal_size((120, 24)).columns, 120)
        wrapper = textwrap.TextWrapper(width, indent, indent + hanging, break_on_hyphens=False)
        print(wrapper.fill(plain(text)))

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        if not panel.entries:
            return
        print(f"{panel.title}:")
        labels = [", ".join(entry.display_labels_with_metavar) for entry in panel.entries]
        column = max(map(len, labels)) + 2
        for label, entry in zip(labels, panel.entries, strict=True):
            notes = [f"[{', '.join(entry.choices)}]"] if entry.choices else []
            notes += ["[required]"] if entry.required else []
            notes += [f"[default: {entry.default}]"] if str(entry.default) not in NO_DEFAULTS else []
            self.say(" ".join([label.ljust(column - 1), plain(entry.description), *notes]), "  ", " " * column)
        print()

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        self.say(f"usage: {plain(usage)}", hanging="  ")
        print()

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        for paragraph in plain(description).split("\n\n"):
            if paragraph.startswith("Example: "):
                print(paragraph)  # in one line, to be copied
            else:
                self.say(paragraph)
            print()


def plain(text: Any) -> str:
    """What stands in a text of the library's."""
    return str(getattr(text, "primary_renderable", text) or "")


# ---- running


def application(name: str, purpose: str) -> App:
    """A program whose verbs are added by `@app.command`."""
    every = Parameter(negative=(), consume_multiple=1, json_list=False, json_dict=False)
    return App(
        name=name,
        help=purpose,
        help_format="plaintext",
        help_formatter=PlainHelp(),
        version_flags=[],
        default_parameter=every,
        suppress_keyboard_interrupt=False,
    )


def parse(app: App, words: Sequence[str]) -> Callable[[], Any]:
    """What the words ask for, ready to be called. What cannot be understood ends the program with exit code 2."""
    verbs = [name for name in app if not name.startswith("-")]
    for place, name in enumerate(verbs):
        app[name].sort_key = place  # help lists them in the order of the source
    try:
        if not words:
            raise CycloptsError(f"A verb is missing: one of {', '.join(verbs)}.")
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        verb = f" {words[0]}" if words and words[0] in verbs else ""
        print(f"error: {error}\nusage: {app.name[0]}{verb} --help", file=sys.stderr)
        sys.exit(2)
    return partial(command, *bound.args, **bound.kwargs)


def run(app: App, words: Sequence[str], hint: str = "") -> int:
    """Do what the words ask for; the exit code. hint: what to do after an interruption."""
    asked = parse(app, words)
    keep_freed_memory()
    try:
        asked()
    except (KitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{hint}", file=sys.stderr)
        return 130
    return 0
