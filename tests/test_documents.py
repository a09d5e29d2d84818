"""The documents of a checkout lead where they say."""

import re

import pytest

from .documents import BLOCK, DOCUMENTS, ROOT, document_name

LINK = re.compile(r"\]\(([^)\s]+)\)")
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not a checkout")


def prose(path):
    """A document without its blocks of code."""
    return BLOCK.sub("", path.read_text())


def anchors(path):
    """The places of a document that an address can name, by GitHub's rules."""
    headings = HEADING.findall(prose(path))
    names = [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings]
    assert len(set(names)) == len(names), f"{path}: a heading twice"
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_links_lead_to_files_and_headings(document):
    lost = []
    for link in LINK.findall(prose(document)):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = document.parent / place if place else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_rows_of_a_table_have_as_many_cells_as_its_head(document):
    for table in TABLE.findall(prose(document)):
        rows = [re.sub(r"`[^`]*`", "", row) for row in table.splitlines()]
        assert {row.count("|") for row in rows} == {rows[0].count("|")}, table


def test_every_document_can_be_reached_from_the_first_page():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        reached.add(document)
        for link in LINK.findall(prose(document)):
            target = (document.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target not in reached and target.exists():
                waiting.append(target)
    assert [document_name(path) for path in set(DOCUMENTS) - reached] == []


def test_speeds_on_the_first_page_were_measured():
    claimed = re.findall(r"([\d.]+)\s+times", (ROOT / "README.md").read_text())
    measured = re.findall(r"([\d.]+)x", (ROOT / "docs" / "performance.md").read_text())
    assert len(claimed) == 7
    assert {float(ratio) for ratio in claimed} <= {round(float(ratio), 1) for ratio in measured}
