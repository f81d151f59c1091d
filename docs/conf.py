"""How Sphinx builds the documentation: ``make docs``."""

import os
import sys
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# commands of plugins that happen to be installed are not on our page
os.environ["AUTOREG_PLUGINS"] = ""

project = "autoreg"
author = "The autoreg developers"
copyright = "2026, The autoreg developers"
release = metadata.version("autoreg-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
default_role = "code"

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_attributes_as_param_list = True

html_theme = "pydata_sphinx_theme"
html_title = f"autoreg {release}"
html_theme_options = {
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "contributing": []}
html_show_sourcelink = False


def write_command_line_page(app: Sphinx) -> None:
    """Write what ``reference/cli.md`` includes: the help of every command, as the commands print it."""
    from cli_page import render

    target = HERE / "reference" / "generated" / "cli.txt"
    target.parent.mkdir(exist_ok=True)
    target.write_text(render(), encoding="utf-8")


def leave_out_routing(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """scikit-learn adds these methods; its own documentation explains them, with links that end here."""
    return True if name.endswith("_request") or name == "get_metadata_routing" else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", leave_out_routing)
    app.connect("builder-inited", write_command_line_page)
