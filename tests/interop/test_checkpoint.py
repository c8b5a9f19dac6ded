"""A checkpoint's configuration of any content is read or refused in one paragraph."""

from __future__ import annotations

from pathlib import Path

import pytest

from segzoo.errors import WeightsError
from segzoo.interop.checkpoint import read, read_config


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "must hold an object of keys and values, as save_pretrained writes it, got list"),
        (b"3", "got int"),
        (b"null", "got NoneType"),
        (b'"x"', "got str"),
        (b"NaN", "got float"),
        (b"true", "got bool"),
        (b"", "cannot be read as JSON"),
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe{}", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"1" * 5_000, "cannot be read as JSON"),
        (b" " * 2**21, "2,097,152 bytes; a network's configuration has some hundred"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_a_configuration_that_is_none(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=words) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        read_config(tmp_path / "none.json")
    with pytest.raises(WeightsError, match=r"There is no checkpoint .*model\.safetensors"):
        read(tmp_path)


def test_a_torn_safetensors_file(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        read(tmp_path / "torn.safetensors")
