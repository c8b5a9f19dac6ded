import numpy as np
import pytest

from segzoo.data import Crop


@pytest.fixture
def sample():
    """200 x 300 pixels whose values tell their place; one pixel of class 3, a corner of class 1, the rest class 0."""
    mask = np.zeros((200, 300), np.uint8)
    mask[180, 250] = 3
    mask[:20, :20] = 1
    mask[100:, :50] = 255
    rows, columns = np.indices(mask.shape)
    return np.stack([rows, columns // 2, columns % 2], -1).astype(np.uint8), mask


def corner(crop):
    return int(crop[0, 0, 0]), int(crop[0, 0, 1]) * 2 + int(crop[0, 0, 2])


def test_image_and_mask_are_cut_alike_and_the_place_is_uniform(sample):
    image, mask = sample
    crop = Crop((64, 96), 255)
    places = []
    for seed in range(300):
        part, labels = crop(image, mask, seed)
        top, left = corner(part)
        np.testing.assert_array_equal(labels, mask[top : top + 64, left : left + 96])
        places.append((top, left))
    assert (np.min(places, 0) < 8).all() and (np.max(places, 0) > (136 - 8, 204 - 8)).all()
    np.testing.assert_allclose(np.mean(places, 0), (68, 102), atol=12)


def test_foreground_classes_come_equally_often_whatever_their_size(sample):
    image, mask = sample
    crop = Crop((32, 32), 255, fraction=1.0, background=(0,))
    shown = [set(np.unique(crop(image, mask, seed)[1])) for seed in range(200)]
    assert all(labels & {1, 3} for labels in shown)
    assert 70 < sum(3 in labels for labels in shown) < 130  # one pixel of 60,000


def test_the_fraction_is_the_share_of_centred_crops(sample):
    image, mask = sample
    crop = Crop((32, 32), 255, fraction=0.3, background=(0, 1))
    centred = sum(bool((crop(image, mask, seed)[1] == 3).any()) for seed in range(500))
    assert 0.22 < centred / 500 < 0.40  # a random crop shows it in 2 % of the cases


def test_without_foreground_the_crop_is_random(sample):
    image, _ = sample
    empty = np.zeros(image.shape[:2], np.uint8)
    places = {corner(Crop((32, 32), 255, 1.0, (0,))(image, empty, seed)[0]) for seed in range(20)}
    assert len(places) == 20


def test_small_images_are_padded_with_the_ignore_index(sample):
    image, mask = sample
    part, labels = Crop((256, 320), 300)(image, mask, 0)
    assert part.shape == (256, 320, 3) and labels.shape == (256, 320)
    np.testing.assert_array_equal(part[:200, :300], image)
    assert (labels[200:] == 300).all() and (labels[:, 300:] == 300).all() and not part[200:].any()


def test_masks_with_a_channel_for_each_class(sample):
    image, mask = sample
    channels = np.stack([mask == label for label in (0, 1, 3)], -1).astype(np.uint8)
    crop = Crop((32, 32), 255, 1.0, (0, 1))
    assert all(crop(image, channels, seed)[1][..., 2].any() for seed in range(20))


def test_one_seed_is_one_crop(sample):
    image, mask = sample
    crop = Crop((32, 32), 255, 0.5, (0,))
    assert {corner(crop(image, mask, 7)[0]) for _ in range(5)} == {corner(crop(image, mask, 7)[0])}
