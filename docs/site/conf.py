"""Settings of Sphinx, which builds the site from the pages that `pages.py` gathers.

All that the pages load lies in the site itself, so it can be read from a disk without a network.
"""

from __future__ import annotations

from pathlib import Path

project = "jde-ray"
project_copyright = "the authors of jde-ray; Apache-2.0"
extensions = ["myst_parser"]
templates_path = [str(Path(__file__).parent / "templates")]
root_doc = "index"
nitpicky = True
highlight_language = "sh"
smartquotes = False  # `--conf` keeps its dashes
suppress_warnings = ["misc.highlighting_failure"]  # excerpts, such as JSON with `...`
myst_heading_anchors = 4  # as code hosts make them

html_theme = "pydata_sphinx_theme"
html_title = "jde-ray"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_sidebars = {"**": ["menu.html"]}
html_theme_options = {
    "navbar_start": ["navbar-logo"],
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button-field"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "show_toc_level": 2,
    "search_as_you_type": False,
}
