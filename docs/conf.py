"""The documentation as a site: ``sphinx-build -W docs build/site``."""

from mmreplk import __version__

project, author, release = 'mmreplk', 'The mmreplk authors', __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
myst_heading_anchors = 3
html_theme = 'furo'
html_title = f'mmreplk {__version__}'
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
exclude_patterns = ['benchmarks/*.md']
