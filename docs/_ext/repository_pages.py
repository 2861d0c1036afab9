"""Lets the pages be read on GitHub and on the site.

On GitHub, docs/README.md is the index and files outside docs/ are linked by relative paths. On the
site, the tables of docs/README.md become the sidebar, and the pages at the top of the repository
become pages of the site.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent

#: Page of the site -> the file at the top of the repository that it shows.
SHOWN = {
    "index": "README.md",
    "project/changelog": "CHANGELOG.md",
    "project/contributing": "CONTRIBUTING.md",
    "project/papers": "PAPERS.md",
}
_PAGES = {f"{file}": f"docs/{name}.md" for name, file in SHOWN.items()}
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def site_link(link: str, written_in: str, shown_as: str) -> str:
    """The link on the site.

    Args:
        link: As it is written, relative to the file or with a scheme.
        written_in: The file that has the link, relative to the repository.
        shown_as: The page of the site that shows the file, in the same way.

    Returns:
        The link, relative to ``shown_as``.

    Example:
        >>> site_link("../PAPERS.md#icm", "docs/icm.md", "docs/icm.md")
        'project/papers.md#icm'
        >>> site_link("docs/ppo.md", "README.md", "docs/index.md")
        'ppo.md'
    """
    path, hash_sign, anchor = link.partition("#")
    if "://" in link or not path:
        return link
    target = os.path.normpath(PurePosixPath(written_in).parent / path)
    target = _PAGES.get(target, target)
    relative = os.path.relpath(target, PurePosixPath(shown_as).parent)
    return f"{relative}{hash_sign}{anchor}"


def site_text(text: str, written_in: str, shown_as: str) -> str:
    """Markdown with the links of the site; code blocks stay as they are."""

    def replaced(match: re.Match[str]) -> str:
        return match[1] + site_link(match[2], written_in, shown_as) + match[3]

    parts = _CODE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(replaced, part) for part in parts)


def sections(index: str) -> Iterator[tuple[str, list[str]]]:
    r"""The sections of docs/README.md: their titles, and the links in their tables.

    Example:
        >>> list(sections("## Guides\n\n| [a.md](a.md) | about [b](b.md) |\n"))
        [('Guides', ['a.md'])]
    """
    for title, body in re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", index, re.MULTILINE):
        yield title, re.findall(r"^\| *\[[^]]*\]\(([^)]+)\)", body, re.MULTILINE)


def toctrees() -> str:
    """The sidebar: a toctree for each section of docs/README.md."""
    trees = ["```{toctree}\n:hidden:\n\nAll pages <README>\n```\n"]
    for title, links in sections((DOCS / "README.md").read_text(encoding="utf-8")):
        pages = [site_link(link, "docs/README.md", "docs/index.md") for link in links]
        names = "\n".join(
            page.removesuffix(".md")
            for page in pages
            if page.endswith(".md") and page != "index.md"
        )
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{names}\n```\n")
    return "\n".join(trees)


def read_source(app: Sphinx, name: str, content: list[str]) -> None:
    """Replaces what Sphinx read of a page by what the site shows."""
    shown_as = f"docs/{name}.md"
    written_in = SHOWN.get(name, shown_as)
    if name in SHOWN:
        content[0] = (ROOT / written_in).read_text(encoding="utf-8")
        app.env.note_dependency(ROOT / written_in)
    content[0] = site_text(content[0], written_in, shown_as)
    if name == "index":
        app.env.note_dependency(DOCS / "README.md")
        content[0] += f"\n{toctrees()}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the extension."""
    app.connect("source-read", read_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
