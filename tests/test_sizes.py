"""`--size HEIGHTxWIDTH`: digits of ASCII, each side above zero and within what a picture can have."""

import pytest

from segzoo.cli import main

ODD = ["512", "0x0", "0x32", "-1x32", "²x²", "3²x32", "٣٢x32", "32 x 32", "100000x1", "9" * 5000 + "x9", "x", ""]


@pytest.mark.parametrize("size", ODD)
def test_what_is_no_size_is_refused_in_a_paragraph(size, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["backbones", "resnet18", "--size", size])
    said = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 1 and len(said) < 250
    assert "--size must be HEIGHTxWIDTH in pixels, such as 512x768, each 1 to 99999" in said


@pytest.mark.parametrize("size", ["32x48", "0032X0048", "99999x1"])
def test_sizes(size, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["backbones", "resnet18", "--size", size])
    assert not stop.value.code and f"GFLOPs at {size}" in capsys.readouterr().out
