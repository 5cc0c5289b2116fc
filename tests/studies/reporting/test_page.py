"""The page: whole in one file, readable without a mouse, a script or eyes."""

from __future__ import annotations

from html.parser import HTMLParser

from qrkd_lab.studies.report import figure, page, table
from qrkd_lab.teaching.plots.style import Chart


class Tags(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


CHART = Chart(2.0, 1.0)
ALT = 'qrkd\'s <score> & "more"'
TEXT = (
    f"# Title\n\n{figure('one', ALT)}\n\n{table(['arm', 'n', 'word'], [['`a`', '1', '**b**']])}\n"
)


def test_a_page_needs_nothing_but_itself():
    text = page(TEXT, "A & B", {"one": CHART})
    tags = Tags(text)
    assert text.startswith("<!DOCTYPE html>") and "<title>A &amp; B</title>" in text
    assert tags.of("html") == [{"lang": "en"}]
    assert tags.of("meta")[1]["content"] == "width=device-width, initial-scale=1"
    (image,) = tags.of("img")
    assert image["src"].startswith("data:image/png;base64,") and image["alt"] == ALT
    assert not tags.of("script") and not tags.of("link") and "url(" not in text


def test_tables_name_their_rows_and_columns_and_can_be_reached_by_keyboard():
    tags = Tags(page(TEXT, "A", {"one": CHART}))
    scopes = [attributes["scope"] for attributes in tags.of("th")]
    assert scopes == ["col", "col", "col", "row"] and len(tags.of("td")) == 2
    assert {"class": "table", "role": "region", "aria-label": "Table", "tabindex": "0"} in tags.of(
        "div"
    )


def test_what_records_say_is_not_markup():
    assert "<b>" not in page("a <b>bold</b> source", "A", {})
