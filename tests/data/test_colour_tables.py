"""Tables of colours in files: each entry is read as it is meant, or refused by its file, line or name."""

from pathlib import Path

import pytest

from segzoo.data.formats.rgb import read_colors
from segzoo.errors import ConfigError

REFUSED = {
    "tagged yes": ("a.yaml", "cat: !!bool maybe\n", "a.yaml:1: 'maybe' is no bool"),
    "tagged number": ("a.yaml", "cat: !!int x\n", "a.yaml:1: 'x' is no int"),
    "tagged point": ("a.yaml", "cat: !!float .\n", "a.yaml:1: '.' is no float"),
    "brackets": ("a.yaml", "a: " + "[" * 3000, "nested too deeply"),
    "dashes": ("a.yaml", "- " * 3000, "nested too deeply|not YAML"),
    "a date that is none": ("a.yaml", "cat: 2026-13-45\n", "cat: '2026-13-45' is no .red, green, blue."),
    "a list as a key": ("a.yaml", "? [a]\n: [1, 2, 3]\n", "a.yaml:1: a list or section stands where a key is due"),
    "a number as a key": ("a.yaml", "1: [1, 2, 3]\n", "a.yaml:1: the key 1 is no text; write it in quotes"),
    "a truth value in a colour": ("a.yaml", "cat: [true, 2, 3]\n", "cat: .* is no .red, green, blue."),
    "a tag of one's own": ("a.yaml", "cat: !thing [1, 2, 3]\n", "the tag !thing is not supported"),
    "a key twice": ("a.yaml", "cat: [1, 2, 3]\ncat: [1, 2, 4]\n", "a.yaml:2: duplicate key"),
    "beyond a byte": ("a.yaml", "cat: [1, 2, 256]\n", "cat: .1, 2, 256. is no"),
    "no mapping": ("a.yaml", "[1, 2, 3]\n", "must hold class names and colours"),
    "superscript": ("a.csv", "dog,1,2,3\ncat,1,2,²\n", "a.csv:2: .* is not one name and three numbers"),
    "superscript alone": ("a.csv", "cat,1,2,²\n", "a.csv:1: .* is not one name and three numbers"),
    "digits of another script": ("a.csv", "cat,1,2,٣\n", "a.csv:1: .* is not one name and three numbers"),
    "5,000 digits": ("a.csv", f"cat,{'9' * 5000},1,1\n", "a.csv:1: .* holds a number over 255"),
    "beyond a byte in a line": ("a.txt", "1 2 300 cat\n", r"a.txt:1, 'cat': \[1, 2, 300\] is no"),
    "a cell without an end": ("a.csv", 'dog,1,2,3\ncat,"' + "x" * 200_000 + "\n", "a.csv:2: .* is no CSV"),
    "a megabyte": ("a.csv", "#" * 1_000_001, "a.csv cannot be read .*over 1,000,000 bytes"),
    "not UTF-8": ("a.csv", b"\xff\xfe\x00", "a.csv cannot be read"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_colour_is_refused_by_its_place(what: str, tmp_path: Path) -> None:
    name, text, words = REFUSED[what]
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=words) as refused:
        read_colors(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value) and len(str(refused.value)) < 600


def test_all_digits_of_a_channel_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,r,g,b\ncat,000128,0,00\n")
    assert read_colors(tmp_path / "a.csv") == [("cat", (128, 0, 0))]
    (tmp_path / "a.yaml").write_text("cat: [[1, 2, 3], [4, 5, 6]]\ndog: [0x10, 0, 255]\n")
    table = [("cat", (1, 2, 3)), ("cat", (4, 5, 6)), ("dog", (16, 0, 255))]
    assert read_colors(tmp_path / "a.yaml") == table
