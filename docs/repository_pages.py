"""Hook of mkdocs: pages that stand beside bundles and benchmarks become pages of the site, at the same paths.

So their links to each other and to their figures work in both places, and nothing is copied. Formulas in docstrings are
shown as their source: what sets them would have to be fetched from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PATTERNS = ("bundles/*/docs/*", "benchmarks/README.md", "benchmarks/results/*.png", "CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what `PATTERNS` finds in the repository."""
    root = Path(config.config_file_path).parent
    for path in sorted(path for pattern in PATTERNS for path in root.glob(pattern)):
        name = path.relative_to(root).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_content(html: str, **_: object) -> str:
    """Leave out the role that Sphinx has for formulas."""
    return html.replace(":math:<code>", "<code>")
