"""The site: ``make docs`` builds it from these pages and from the docstrings, without network."""

import sys
from pathlib import Path

import rlssl

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
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "params_style"), "Differs"]

# Copied commands have no prompts.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"rlssl {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
