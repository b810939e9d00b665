"""How Sphinx makes the site, for `make docs`."""

from equivariant_nets import __version__

project = "equivariant_nets"
author = copyright = "equivariant_nets contributors"
release = __version__

# The source is the folder of the repository, so that a link leads on the site where it leads in a checkout.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "benchmarks/*.md", "bundles/*.md", "bundles/*/docs/*.md"]
include_patterns += ["equivariant_nets/networks/*/README.md"]
exclude_patterns = [".*", "build", "data", "dist", "label", "output", "tests"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 4
autodoc_default_options = {"members": True, "imported-members": True, "member-order": "groupwise"}
autodoc_typehints = "none"  # the docstrings say types and shapes
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!equivariant_nets).*")]  # names of other packages

html_theme = "furo"
html_title = "equivariant_nets"
html_additional_pages = {"index": "start.html"}
templates_path = ["templates"]
