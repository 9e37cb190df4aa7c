"""Settings of the documentation's build. Nothing here uses the network."""

from importlib.metadata import version as version_of

project = "secateur"
author = "The secateur authors"
copyright = author
version = release = version_of("secateur")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_generate"]

html_theme = "furo"
html_title = f"secateur {release}"

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
