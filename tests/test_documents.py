"""The documents of a checkout lead where they say."""

import re

import pytest

from .documents import DOCUMENTS, ROOT

LINK = re.compile(r"\]\(([^)#\s]+)")


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not a checkout")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(document):
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []
