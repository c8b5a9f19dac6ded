"""Addresses of hubs: read and written in one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segzoo.config import load_config
from segzoo.errors import AddressError, ConfigError
from segzoo.hub import Address, is_address, parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WRITTEN = {
    "hf://user/name": Address("hf", "user/name"),
    "hf://user/name@main": Address("hf", "user/name", "main"),
    f"hf://user/name@{COMMIT}/best.weights.h5": Address("hf", "user/name", COMMIT, "best.weights.h5"),
    "hf://user/name@refs/pr/7": Address("hf", "user/name", "refs/pr/7"),
    "hf://user/name@refs/pr/7/a/b.weights.h5": Address("hf", "user/name", "refs/pr/7", "a/b.weights.h5"),
    "hf://user/name@feature%2Fx": Address("hf", "user/name", "feature/x"),
    "hf://user/name/a@2.weights.h5": Address("hf", "user/name", None, "a@2.weights.h5"),
    "hf://some-org/Model_1.2": Address("hf", "some-org/Model_1.2"),
    "kaggle://owner/model/keras/small": Address("kaggle", "owner/model/keras/small"),
    "kaggle://owner/model/keras/small/3": Address("kaggle", "owner/model/keras/small", "3"),
    "kaggle://owner/model/keras/small/3/best.weights.h5": Address(
        "kaggle", "owner/model/keras/small", "3", "best.weights.h5"
    ),
    "kaggle://owner/model/keras/small/best.weights.h5": Address(
        "kaggle", "owner/model/keras/small", None, "best.weights.h5"
    ),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_an_address_is_read_and_written_alike(text) -> None:
    assert is_address(text) and parse(text) == WRITTEN[text] and str(parse(text)) == text


@pytest.mark.parametrize("text", [text for text in WRITTEN if text.startswith("hf://")])
def test_huggingface_hub_reads_them_alike(text) -> None:
    theirs = pytest.importorskip("huggingface_hub.utils._hf_uris").parse_hf_uri(text)
    ours = parse(text)
    assert (theirs.id, theirs.revision, theirs.path_in_repo or None) == (ours.repository, ours.revision, ours.file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hf://name", "not of the form hf://USER/NAME"),
        ("hf://user/", "not of the form"),
        ("hf://user/name@", "not of the form"),
        ("hf://user/name@a..b", "not of the form"),
        ("hf://user/name/", "not of the form"),
        ("hf://user/name/../other", "not of the form"),
        ("hf://user/name/a//b", "not of the form"),
        ("hf://user/na--me", "not of the form"),
        ("hf://us er/name", "not of the form"),
        ("hf://user/-name", "not of the form"),
        ("kaggle://owner/model", "FRAMEWORK/VARIATION"),
        ("kaggle://owner/model/keras/small/3/../x", "not of the form kaggle://"),
        ("s3://bucket/run", "there is no hub s3:// here.*hf://USER/NAME.*kaggle://OWNER"),
        ("HF://user/name", "there is no hub HF://"),
        ("runs/tiny", "is no address of a hub"),
    ],
)
def test_another_form_is_refused_with_the_right_one(text, words) -> None:
    with pytest.raises(AddressError, match=words):
        parse(text)


def test_an_address_that_pathlib_has_shortened_is_recognised() -> None:
    text = str(Path("hf://user/name"))
    assert is_address(text)
    with pytest.raises(AddressError, match=r"has lost a slash.*give it as a text"):
        parse(text)


@pytest.mark.parametrize("text", ["runs/tiny", "/runs/hf", "C:\\runs", "C://runs", "preset:name", "a:b", "~/x", "hf"])
def test_paths_are_no_addresses(text) -> None:
    assert not is_address(text)


@given(st.text(max_size=40), st.sampled_from(["hf://", "kaggle://", "hf://user/name@", "kaggle://a/b/c/d/"]))
def test_what_is_read_is_written_so_that_it_reads_the_same(text, start) -> None:
    try:
        found = parse(start + text)
    except AddressError:
        return
    assert parse(str(found)) == found
    assert found.file is None or not {"", ".", ".."} & set(found.file.split("/"))


@pytest.mark.parametrize("key", ["model.weights", "training.init_from"])
def test_a_configuration_takes_addresses_and_names_the_key_of_a_wrong_one(key) -> None:
    found = load_config("unet_b0", [f"{key}=hf://user/name@main"])
    section, name = key.split(".")
    assert getattr(getattr(found, section), name) == "hf://user/name@main"
    with pytest.raises(ConfigError, match=rf"{key}.*not of the form hf://USER/NAME"):
        load_config("unet_b0", [f"{key}=hf://name"])
