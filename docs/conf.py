"""The documentation as a site: ``sphinx-build -W docs build/site``."""

from mmreplk import __version__

project, author, release = 'mmreplk', 'The mmreplk authors', __version__
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
nb_execution_mode = 'off'  # what is shown is stored in the notebook; tests/docs/test_tutorial.py runs it
myst_heading_anchors = 3
html_theme = 'furo'
html_title = f'mmreplk {__version__}'
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
exclude_patterns = ['benchmarks/*.md']


def setup(app) -> None:
    """Leaves the fields of named tuples to their docstrings, which say more than "alias for field number 0"."""
    app.connect('autodoc-skip-member', lambda app, what, name, thing, skip, options:
                True if type(thing).__name__ == '_tuplegetter' else None)
