"""Names of classes and files as anybody may choose them: every medium shows them, and none takes them for its own."""

import csv
import io
import json
import re
import unicodedata
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from rich.console import Console

from segzoo.engine.callbacks.progress_display import class_table
from segzoo.engine.logs import TensorBoardLog, write_csv
from segzoo.escaping import fenced, for_markdown, for_plot, printable
from segzoo.metrics import ConfusionMatrix
from segzoo.reporting.evaluation import confusion_picture
from segzoo.reporting.page import html_table, markdown_table, page, preformatted
from segzoo.reporting.pictures import prediction_sheet
from segzoo.terminal import say, warn
from segzoo.tracking.mlflow import metric_names

HOSTILE = (
    "[/b]",
    "[red]",
    r"$\foo$",
    "$",
    r"\$",
    "a\nb",
    "</pre>",
    "<script>",
    "a|b",
    "\x1b[2J",
    "\udcff",
    "\u202e",
    "Straße 日本 🦊",
    "",
)
NAMES = st.text(max_size=12) | st.sampled_from(HOSTILE) | st.text("[]()/\\$|<>&'\"`*_#!~:{}^%\n", max_size=8)


pytestmark = pytest.mark.filterwarnings("error:Glyph")  # what matplotlib says of a letter that it draws as a box
DEJAVU = get_font(findfont("DejaVu Sans"))


def every_name(test):
    for name in HOSTILE:
        test = example(name)(test)
    return given(NAMES)(test)


@every_name
def test_what_is_printable_is_one_line_that_every_encoding_has(name):
    shown = printable(name)
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    if name.isascii() and name.isprintable():
        assert shown == name


@every_name
def test_the_screen_shows_names_as_they_are_in_every_encoding(name):
    confusion = ConfusionMatrix(2, 255, [[3, 1], [0, 2]])
    for encoding in ("utf-8", "ascii", "latin-1"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
        console = Console(file=stream, width=500)
        say(console, name)
        warn(console, name)
        console.print(class_table(confusion, [name, "other"], name))
        stream.flush()
        lines = stream.buffer.getvalue().decode(encoding)
        if name.isascii() and name.isprintable():
            assert lines.startswith(f"{name}\nWarning: {name}\n")
            assert name.strip() in lines[2 * len(name) + 11 :]
        assert "\x1b" not in lines


@every_name
def test_a_plot_takes_no_name_for_a_formula(name):
    figure = Figure(figsize=(1, 1))
    canvas = FigureCanvasAgg(figure)
    text = figure.text(0.5, 0.5, for_plot(name))
    parsed, is_formula = text._preprocess_math(text.get_text())
    shown = in_glyphs(name)
    assert not is_formula and parsed == (shown if len(shown) <= 60 else f"{shown[:59]}…")
    canvas.draw()


def in_glyphs(name):
    """The letters of a name that DejaVu Sans has, and escapes of the others."""
    return "".join(
        letter if DEJAVU.get_char_index(ord(letter)) else letter.encode("unicode_escape").decode()
        for letter in printable(name)
    )


def test_classes_whose_letters_no_font_has_are_told_apart(tmp_path):
    """As boxes they would all look alike."""
    names = ("Straße Ω", "日本", "中国", "🦊")
    drawn = ["Straße Ω", r"\u65e5\u672c", r"\u4e2d\u56fd", r"\U0001f98a"]
    assert [for_plot(name) for name in names] == drawn
    image, labels = np.zeros((4, 4, 3), "uint8"), np.zeros((4, 4), "uint8")
    sheets = []
    for first in names[1:3]:
        prediction_sheet(
            [(image, labels, labels, "a")], (first, "b"), np.zeros((2, 3), "uint8"), 255, tmp_path / "sheet.png"
        )
        sheets.append((tmp_path / "sheet.png").read_bytes())
    assert sheets[0] != sheets[1]


@every_name
def test_markdown_cells_and_headings_stay_what_they_are(name):
    lines = markdown_table([("class", "IoU"), (name, "0.5")])
    assert len(lines) == 3 and all(len(line.splitlines()) == 1 for line in lines)
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[2])) == 3
    plain = re.sub(r"\\([\\`*_\[\]<>&|~$#!])", r"\1", for_markdown(name))
    assert plain == printable(name)
    block = fenced(name, "yaml")
    assert block[0].startswith("```") and not any(line.startswith(block[-1]) for line in block[1].splitlines())


class Texts(HTMLParser):
    """Tags and text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@every_name
def test_html_has_the_tags_that_it_should_have_and_the_name_as_text(name):
    parser = Texts()
    parser.feed(page(name, [html_table([(name, "0.5")], headed=False), preformatted(name)]))
    parser.close()
    head = ["html", "head", "meta", "meta", "title", "style"]
    body = ["body", "h1", "div", "table", "tbody", "tr", "td", "td", "pre", "script"]
    assert parser.tags == head + body
    assert "".join(parser.text).count(printable(name)) >= 3


@settings(max_examples=min(20, settings().max_examples))  # each draws two pictures
@given(st.lists(NAMES, min_size=2, max_size=2))
@example([r"$\foo$", "a\nb"])
@example(["\udcff", "[/b]"])
def test_pictures_are_drawn_with_any_names(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    confusion_picture(ConfusionMatrix(2, 255, [[3, 1], [0, 2]]), names, path)
    labels = np.array([[0, 1], [1, 0]])
    image = np.zeros((2, 2, 3), "uint8")
    prediction_sheet([(image, labels, labels, names[0])], names, np.zeros((2, 3), "uint8"), 255, path)


@given(st.lists(NAMES, min_size=2, max_size=4, unique=True))
@example(["a$b", "a_b"])
@example(["..", "."])
def test_figures_of_any_class_reach_the_csv_tensorboard_and_trackers(tmp_path_factory, names):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path_factory.mktemp("figures")
    row = {f"val_iou/{name}": index / 8 for index, name in enumerate(names)}
    write_csv(folder / "metrics.csv", [row])
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        (found,) = csv.DictReader(stream)
    assert [float(value) for value in found.values()] == list(row.values())
    log = TensorBoardLog(folder / "tensorboard")
    log.scalars(1, row)
    log.close()
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {printable(key) for key in row}
    sent = metric_names(row)
    assert len(set(sent.values())) == len(row)
    assert all(re.fullmatch(r"[\w./ -]{1,250}", name) for name in sent.values())
    assert not any(part in ("", ".", "..") for name in sent.values() for part in name.split("/"))
    json.dumps(row).encode("utf-8")


@pytest.mark.parametrize("length", [300, 5000])
def test_long_names_are_drawn_and_sent(tmp_path, length):
    confusion_picture(ConfusionMatrix(2, 255, [[3, 1], [0, 2]]), ["n" * length, "m"], tmp_path / "picture.png")
    one, two = metric_names({"n" * length: 0.0, "n" * length + "m": 0.0}).values()
    assert one != two and max(len(one), len(two)) <= 250
