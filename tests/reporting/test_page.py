"""Pages from templates: foreign text is escaped everywhere, and nothing is fetched."""

import re

import pytest

from segzoo.reporting.page import embedded, heading, html_table, link, page, picture, preformatted, quiet

FOREIGN = "<script>alert('x')</script> & \"quotes\" \u202e\x1b[0m \udcff"


@pytest.mark.parametrize(
    "part",
    [
        quiet(FOREIGN),
        heading(FOREIGN),
        link(FOREIGN, FOREIGN),
        preformatted(FOREIGN),
        picture(FOREIGN, FOREIGN),
        html_table([[FOREIGN], [FOREIGN], [FOREIGN]], footed=True),
    ],
    ids=lambda part: part.macro,
)
def test_foreign_text_is_shown_as_it_is(part):
    text = page(FOREIGN, [part])
    plain = page("title", [])
    assert text.count("<script>") == plain.count("<script>") == 1
    assert "\u202e" not in text and "\x1b" not in text and text.encode("utf-8")
    shown = r"&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;quotes&#34; \u202e\x1b[0m \udcff"
    assert text.count(shown) == 2 + {"link": 2, "picture": 2, "table": 3}.get(part.macro, 1)


def test_preformatted_text_keeps_its_lines():
    assert "<pre>a: 1\n\tb: &lt;2&gt;\n</pre>" in page("title", [preformatted("a: 1\n\tb: <2>\n")])


def test_headings_and_means_of_tables_are_apart_from_what_is_sorted():
    rows = [["class", "IoU"], ["road", "0.5"], ["mean", "0.5"]]
    flat = "".join(page("title", [html_table(rows, footed=True)]).split("\n"))
    assert "<thead><tr><th>class</th><th>IoU</th></tr></thead>" in flat
    assert "<tbody><tr><td>road</td><td>0.5</td></tr></tbody>" in flat
    assert "<tfoot><tr><td>mean</td><td>0.5</td></tr></tfoot>" in flat
    bare = page("title", [html_table(rows, headed=False, words=True)])
    assert bare.count("<td>") == 6 and "<thead>" not in bare and '<table class="words">' in bare
    assert len(rows) == 3


def test_a_page_fetches_nothing():
    text = page("title", [picture(embedded(b"\x89PNG"), "none")])
    assert 'src="data:image/png;base64,iVBORw=="' in text
    assert not re.search(r"https?:|@import|url\(|(src|href)=\"(?!data:)", text)
