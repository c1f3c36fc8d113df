"""Addresses made from the one setting in `_config.yml`, for pages of the book that are not chapters.

In a page's source `@repository@` is the repository's address, `@branch@` its branch (a release's tag), and `@colab@`
where Colab opens its notebooks: `@colab@/chapters/rnn.ipynb`.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def addresses(app: Sphinx) -> dict[str, str]:
    options = app.config.html_theme_options
    repository = options["repository_url"].rstrip("/")
    branch = options.get("repository_branch") or "main"
    owner_and_name = repository.removeprefix("https://github.com/")
    return {
        "@repository@": repository,
        "@branch@": branch,
        "@colab@": f"https://colab.research.google.com/github/{owner_and_name}/blob/{branch}",
    }


def fill_addresses(app: Sphinx, docname: str, content: list[str]) -> None:
    if docname.startswith("book/"):
        for mark, address in addresses(app).items():
            content[0] = content[0].replace(mark, address)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", fill_addresses)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
