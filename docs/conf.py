"""The site: ``make docs`` builds it from these pages and from the docstrings, without network."""

import importlib
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import rlssl

# Autodoc lists what a package has, and these packages import their names on first use.
for package in map(importlib.import_module, ("rlssl.auxiliary", "rlssl.environments")):
    vars(package).update({name: package.__getattr__(name) for name in package.__all__})

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "rlssl"
author = "the authors of rlssl"
version = release = rlssl.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "repository_pages",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]

# Markdown, as GitHub reads it: headings have the anchors that links use.
myst_heading_anchors = 6
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # README.md of a folder may begin below the first level

# Docstrings.
default_role = "literal"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]

# Copied commands have no prompts.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"rlssl {version}"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["search.js"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}


def keep_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keeps napoleon from reading "Rows: those of the batch" as a type and its meaning.

    Napoleon reads only the first line of an attribute so.
    """
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")


def setup(app: Sphinx) -> None:
    """Runs before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
