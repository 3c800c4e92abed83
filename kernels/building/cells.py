"""The kernel as a notebook: a heading and the prose of each section, then its source as a cell.

The conversion is jupytext's. It must not change the code: the cells are held against the sections.
"""

import re

from building.inline import BuildError, Section

# No word of the machine that builds: the same sources give the same bytes.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# jupytext would make cell magics of comments that look like them.
PERCENT = {"extension": ".py", "format_name": "percent", "comment_magics": False}


def markdown(prose: str) -> str:
    """Prose as Markdown. Paragraphs with columns of spaces keep their lines."""
    paragraphs = re.split(r"\n\n+", prose)
    return "\n\n".join(f"```text\n{text}\n```" if re.search(r"\S  +\S", text) else text for text in paragraphs)


def percent(kind: str, text: str) -> str:
    """A cell in the percent format."""
    if kind == "code":
        return f"# %%\n{text}\n"
    return "# %% [markdown]\n" + "".join(f"# {line}".rstrip() + "\n" for line in text.split("\n"))


def as_notebook(head: list[str], sections: list[Section]) -> str:
    """The notebook's JSON. Raises BuildError without jupytext, and where a section does not survive as a cell."""
    try:
        import jupytext  # only notebooks need them
        import nbformat
    except ImportError as error:
        raise BuildError(
            "A notebook is made by jupytext, which is not installed; run `pip install jupytext`."
        ) from error
    cells = {"head": ("markdown", "\n\n".join(["# HMS inference", *head]))}
    for one in sections:
        cells[f"{one.name}-title"] = ("markdown", f"## {one.name}\n\n{markdown(one.about)}".strip())
        if one.source:
            cells[one.name] = ("code", one.source)
    notebook = jupytext.reads("\n".join(percent(*cell) for cell in cells.values()), PERCENT)
    made = [(cell.cell_type, cell.source) for cell in notebook.cells]
    changed = [name for name, cell in zip(cells, made, strict=False) if cells[name] != cell]
    if changed or len(made) != len(cells):
        found = f"{(changed or [sections[-1].name])[0]}: jupytext reads it as another cell"
        raise BuildError(f"{found}; a line in it looks like the mark of a cell (# %%): write it otherwise.")
    for name, cell in zip(cells, notebook.cells, strict=True):
        cell.metadata = {}
        cell["id"] = name.replace(".", "-")
    notebook.metadata, notebook.nbformat, notebook.nbformat_minor = METADATA, 4, 5
    return nbformat.writes(notebook) + "\n"
