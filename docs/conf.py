"""Settings of the documentation's build. Nothing here uses the network."""

import sys
from importlib.metadata import version as version_of

from secateur.errors import DataError
from secateur.tasks.data import SOURCES, Source, locate


def _there(source: Source) -> bool:
    try:
        return bool(locate(source))
    except DataError as error:
        sys.stderr.write(f"the tutorials are shown without results: {error}\n")
        return False


project = "secateur"
author = "The secateur authors"
copyright = author
version = release = version_of("secateur")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_generate"]

html_theme = "furo"
html_title = f"secateur {release}"

# The tutorials are run while the pages are built, on the real data, if it is on this machine.
nb_execution_mode = "force" if _there(SOURCES["fashion-mnist"]) else "off"
nb_execution_timeout = 600  # seconds, of one cell
nb_execution_raise_on_error = True
nb_merge_streams = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a dataclass's attributes are documented once, by the class
napoleon_use_rtype = False
napoleon_custom_sections = ["Formula", "Shape", "Shapes", "Units", "Reference"]

# A copied example leaves its prompts and its results behind.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
