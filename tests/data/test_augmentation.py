import concurrent.futures
import subprocess
import sys
import tempfile

import albumentations as A
import numpy as np
import pytest

from segzoo.data import Augmentation, validate_transforms
from segzoo.data.augmentation import _REFUSED, _REFUSED_IN_MULTILABEL, _known, check_labels_written
from segzoo.errors import ConfigError, DataError, UnknownNameError
from segzoo.task import Task

IGNORE = 200


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (72, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def mask():
    return np.random.default_rng(1).choice(np.array([3, 7, 11], np.uint8), (72, 96))


MIXED = [
    {"RandomScale": {"scale_limit": [-0.3, 0.5], "p": 1.0}},
    {"PadIfNeeded": {"min_height": 64, "min_width": 64}},
    {"RandomCrop": {"height": 64, "width": 64}},
    "HorizontalFlip",
    {"OneOf": {"transforms": [{"Rotate": {"limit": 40}}, {"ElasticTransform": None}], "p": 0.7}},
    {"SomeOf": {"transforms": ["GaussNoise", "ColorJitter", {"CoarseDropout": {"p": 1.0}}], "n": 2}},
]

# Every geometric transform of albumentations with the arguments that make it show pixels from outside the image.
BORDERS = {
    "Affine": {"rotate": [30, 40], "p": 1.0},
    "Rotate": {"limit": [30, 40], "p": 1.0},
    "SafeRotate": {"limit": [30, 40], "p": 1.0},
    "ShiftScaleRotate": {"rotate_limit": [30, 40], "p": 1.0},
    "PadIfNeeded": {"min_height": 128, "min_width": 128},
    "Pad": {"padding": 9, "p": 1.0},
    "CropAndPad": {"px": 9, "p": 1.0},
    "RandomCrop": {"height": 100, "width": 100, "pad_if_needed": True},
    "CenterCrop": {"height": 100, "width": 100, "pad_if_needed": True},
    "Crop": {"x_max": 120, "y_max": 120, "pad_if_needed": True},
    "GridDistortion": {"distort_limit": [0.4, 0.5], "normalized": False, "p": 1.0},
    "Perspective": {"scale": [0.3, 0.3], "fit_output": True, "p": 1.0},
    "ElasticTransform": {"alpha": 300, "sigma": 8, "p": 1.0},
    "OpticalDistortion": {"distort_limit": [0.9, 0.9], "p": 1.0},
    "ThinPlateSpline": {"scale_range": [0.4, 0.4], "p": 1.0},
}


@pytest.mark.parametrize("name", BORDERS)
def test_pixels_from_outside_the_image_are_ignored(name, image, mask):
    augmentation = Augmentation([{name: BORDERS[name]}], IGNORE)
    found = [augmentation(image, mask, seed)[1] for seed in range(8)]
    assert set(np.unique(np.concatenate([m.ravel() for m in found]))) == {3, 7, 11, IGNORE}


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("ignore_index", [255, -1, -9999])
@pytest.mark.parametrize("name", BORDERS)
def test_pixels_from_outside_are_ignored_in_every_channel(name, ignore_index, channels, image):
    """OpenCV fills with a number in the first of four channels only: the others became "no"."""
    everywhere = np.ones((*image.shape[:2], channels), np.uint8)
    found = Augmentation([{name: BORDERS[name]}], ignore_index)(image, everywhere, 1)[1]
    assert found.shape[2] == channels
    assert set(np.unique(found[..., 0])) == {1, ignore_index}
    for channel in range(1, channels):
        np.testing.assert_array_equal(found[..., channel], found[..., 0])


def test_every_transform_works_or_is_refused_before_a_sample_is_read(image, mask):
    """With the arguments that it needs; what fails on every sample has no place in a configuration that was checked."""
    needed = {
        **BORDERS,
        "GridElasticDeform": {"num_grid_xy": [4, 4], "magnitude": 5},
        "Resize": {"height": 32, "width": 40},
        "RandomSizedCrop": {"min_max_height": [16, 24], "size": [24, 24]},
        "RandomResizedCrop": {"size": [24, 24]},
        "CropNonEmptyMaskIfExists": {"height": 24, "width": 24},
        "AtLeastOneBBoxRandomCrop": {"height": 24, "width": 24},
        "RandomSizedBBoxSafeCrop": {"height": 24, "width": 24},
        "LongestMaxSize": {"max_size": 40},
        "SmallestMaxSize": {"max_size": 40},
    }
    refused = set()
    for name, kind in _known().items():
        if issubclass(kind, A.BaseCompose):
            continue
        try:
            augmentation = Augmentation([{name: {"p": 1.0, **needed.get(name, {})}}], IGNORE)
        except ConfigError as error:
            assert name in str(error)
            refused.add(name)
            continue
        new_image, new_mask = augmentation(image, mask, 3)
        assert new_image.dtype == np.uint8 and set(np.unique(new_mask)) <= {3, 7, 11, IGNORE}, name
        if name in _REFUSED_IN_MULTILABEL:
            continue
        for channels in (1, 3, 7):
            layers = (mask[..., None] % np.arange(2, channels + 2) == 0).astype(np.uint8)
            new_image, new_layers = augmentation(image, layers, 3)
            assert new_layers.shape == (*new_image.shape[:2], channels), name
            assert set(np.unique(new_layers)) <= {0, 1, IGNORE}, name
    assert refused == set(_REFUSED) & set(_known())


def test_no_geometric_transform_invents_a_label(image, mask):
    """Over every dual transform that needs no further argument, whatever albumentations adds to them."""
    tried = []
    for name, kind in _known().items():
        if issubclass(kind, A.BaseCompose) or not issubclass(kind, A.DualTransform):
            continue
        try:
            augmentation = Augmentation([{name: {"p": 1.0}}], IGNORE)
            found = [augmentation(image, mask, seed)[1] for seed in range(3)]
        except (ConfigError, DataError):  # needs arguments (a size) or data (boxes) that this loop does not know
            continue
        tried.append(name)
        labels = set(np.unique(np.concatenate([m.ravel() for m in found])))
        assert labels <= {3, 7, 11, IGNORE}, name
    assert {"Affine", "D4", "PiecewiseAffine", "RandomScale", "Transpose"} <= set(tried)


# What a transform of a multilabel mask is compared with; those whose crop depends on the mask are not.
BY_POSITION = {name: options for name, options in BORDERS.items() if name not in ("Affine", "ShiftScaleRotate")} | {
    "D4": {"p": 1.0},
    "HorizontalFlip": {"p": 1.0},
    "PiecewiseAffine": {"scale": [0.1, 0.2], "p": 1.0},
    "RandomGridShuffle": {"p": 1.0},
    "RandomResizedCrop": {"size": [24, 24]},
    "RandomScale": {"scale_limit": [0.3, 0.4], "p": 1.0},
    "Resize": {"height": 32, "width": 40},
    "Transpose": {"p": 1.0},
}


@pytest.mark.parametrize("name", BY_POSITION)
def test_a_multilabel_mask_is_transformed_as_class_indices_are(name, image):
    """The classes of a mask apart and together: the same pixels in the same places, the ignored ones too."""
    labels = np.random.default_rng(3).integers(0, 6, (9, 12)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    labels[20:40, 30:50] = IGNORE
    layers = (labels[..., None] == np.arange(6)).astype(np.uint8)
    layers[labels == IGNORE] = IGNORE
    augmentation = Augmentation([{name: BY_POSITION[name]}], IGNORE)
    for seed in range(2):
        expected = augmentation(image, labels, seed)[1]
        found = augmentation(image, layers, seed)[1]
        np.testing.assert_array_equal(found == IGNORE, np.repeat((expected == IGNORE)[..., None], 6, axis=2))
        np.testing.assert_array_equal(found == 1, expected[..., None] == np.arange(6))


def test_crop_of_what_is_not_empty_takes_ignored_pixels_for_empty_ones(image):
    mask = np.full((72, 96), IGNORE, np.uint8)
    mask[:, :8] = 0
    mask[60:, 90:] = 1
    for layers in (mask, np.where(mask == IGNORE, IGNORE, mask == 1).astype(np.uint8)[..., None]):
        augmentation = Augmentation([{"CropNonEmptyMaskIfExists": {"height": 16, "width": 16}}], IGNORE)
        assert all((augmentation(image, layers, seed)[1] == 1).any() for seed in range(20))


@pytest.mark.parametrize("name", ["Affine", "Resize"])
def test_labels_are_never_mixed(name):
    options = {"Affine": {"rotate": 30}, "Resize": {"height": 9, "width": 9}}[name]
    for given in (1, "cv2.INTER_CUBIC"):
        with pytest.raises(ConfigError, match=f"{name} with mask_interpolation .* mixes labels.*cv2.INTER_NEAREST"):
            validate_transforms([{name: {**options, "mask_interpolation": given}}])
    validate_transforms([{name: {**options, "mask_interpolation": "cv2.INTER_NEAREST"}}])


@pytest.mark.parametrize(
    ("entry", "mode", "message"),
    [
        ("MaskDropout", "multilabel", "MaskDropout looks for objects .* CoarseDropout"),
        ({"ConstrainedCoarseDropout": {"mask_indices": [1]}}, "multilabel", "ConstrainedCoarseDropout looks for"),
        ({"OneOf": {"transforms": ["Blur", {"MaskDropout": None}]}}, "multilabel", "MaskDropout looks for"),
        (
            {"Pad": {"padding": 2, "fill_mask": 3}},
            "multiclass",
            r"Pad: fill_mask is 3, .* label \(0 to 2\) nor .* \(200\)",
        ),
        ({"Pad": {"padding": 2, "fill_mask": 2}}, "multilabel", r"Pad: fill_mask is 2, .* label \(0 to 1\)"),
        ({"Perspective": {"fill_mask": [0, 0.5]}}, "multiclass", "Perspective: fill_mask is 0.5"),
        ({"CoarseDropout": {"fill_mask": 255}}, "multiclass", "CoarseDropout: fill_mask is 255"),
        ({"PixelDropout": {"mask_drop_value": -1}}, "multiclass", "PixelDropout: mask_drop_value is -1"),
    ],
)
def test_labels_that_no_mask_has_are_not_written(entry, mode, message):
    validate_transforms([entry])
    with pytest.raises(ConfigError, match=message):
        check_labels_written(entry, Task(("a", "b", "c"), IGNORE, mode))


def test_labels_that_masks_have_may_be_written():
    for entry in ("MaskDropout", {"Pad": {"padding": 2, "fill_mask": 2}}, {"CoarseDropout": {"fill_mask": IGNORE}}):
        check_labels_written(entry, Task(("a", "b", "c"), IGNORE))
    for entry in ("Blur", {"Pad": {"padding": 2, "fill_mask": 1}}, {"Pad": {"padding": 2, "fill_mask": IGNORE}}):
        check_labels_written(entry, Task(("a", "b", "c"), IGNORE, "multilabel"))


def test_fill_mask_given_by_the_user_wins(image, mask):
    augmentation = Augmentation([{"Pad": {"padding": 4, "fill_mask": 3, "p": 1.0}}], IGNORE)
    assert (augmentation(image, mask, 0)[1][:4] == 3).all()


def test_borders_are_ignored_inside_nested_transforms(image, mask):
    pad = {"Pad": {"padding": 5, "p": 1.0}}
    nested = {"Sequential": {"transforms": [{"OneOf": {"transforms": [pad], "p": 1.0}}], "p": 1.0}}
    assert (Augmentation([nested], IGNORE)(image, mask, 0)[1][:5] == IGNORE).all()


def test_dropout_leaves_the_mask_alone(image, mask):
    dropped, kept = Augmentation([{"CoarseDropout": {"p": 1.0}}], IGNORE)(image, mask, 0)
    assert (dropped != image).any()
    np.testing.assert_array_equal(kept, mask)


def test_the_result_depends_on_the_arguments_only(image, mask):
    one, two = Augmentation(MIXED, IGNORE), Augmentation(MIXED, IGNORE)
    expected = [one(image, mask, seed) for seed in range(30)]
    np.random.seed(0)  # noqa: NPY002  the global state must not matter
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: two(image, mask, seed), reversed(range(30))))[::-1]
    for (image_a, mask_a), (image_b, mask_b) in zip(expected, found, strict=True):
        np.testing.assert_array_equal(image_a, image_b)
        np.testing.assert_array_equal(mask_a, mask_b)
    assert len({image_a.tobytes() for image_a, _ in expected}) == 30


def test_the_inputs_are_not_changed(image, mask):
    before = image.copy(), mask.copy()
    for seed in range(10):
        Augmentation(MIXED, IGNORE)(image, mask, seed)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_transforms_are_drawn_independently(image, mask):
    """albumentations' own set_random_seed gives every transform one stream: both flips would happen together."""
    augmentation = Augmentation([{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}], IGNORE)
    kinds = [mask, mask[:, ::-1], mask[::-1], mask[::-1, ::-1]]
    found = [augmentation(image, mask, seed)[1] for seed in range(400)]
    counts = [sum(np.array_equal(result, kind) for result in found) for kind in kinds]
    assert sum(counts) == 400 and all(60 < count < 140 for count in counts)


def test_image_and_mask_move_together():
    mask = np.random.default_rng(2).choice(np.array([0, 100], np.uint8), (9, 12)).repeat(8, 0).repeat(8, 1)
    image = np.repeat(mask[..., None], 3, axis=2)
    chain = [{"Rotate": {"limit": 45, "p": 1.0}}, {"RandomScale": {"p": 1.0}}, "HorizontalFlip", "Transpose"]
    for seed in range(10):
        moved, labels = Augmentation(chain, IGNORE)(image, mask, seed)
        inside = labels != IGNORE
        agree = np.abs(moved[..., 0].astype(int) - labels)[inside] < 50
        assert agree.mean() > 0.9


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("name", ["Affine", "ElasticTransform", "PadIfNeeded", "Perspective", "RandomScale"])
def test_every_integer_type_of_mask_passes_unharmed(dtype, name, image, mask):
    labels = mask.astype(dtype) * (1 if dtype == np.uint8 else 100)
    _, found = Augmentation([{name: BORDERS.get(name, {"p": 1.0})}], IGNORE)(image, labels, 1)
    assert found.dtype == dtype and set(np.unique(found)) <= {*np.unique(labels), IGNORE}


def test_an_ignore_index_that_the_mask_cannot_hold_widens_it(image, mask):
    for ignore_index in (-1, 65535, 100000):
        _, found = Augmentation([{"Pad": {"padding": 2, "p": 1.0}}], ignore_index)(image, mask, 0)
        assert set(np.unique(found)) == {3, 7, 11, ignore_index}


def test_an_empty_list_changes_nothing(image, mask):
    found = Augmentation([], IGNORE)(image, mask, 0)
    assert found[0] is image and found[1] is mask


def test_opencv_constants_can_be_named(image, mask):
    chain = [{"Pad": {"padding": 6, "border_mode": "cv2.BORDER_REFLECT_101", "p": 1.0}}]
    np.testing.assert_array_equal(Augmentation(chain, IGNORE)(image, mask, 0)[1][5], np.pad(mask[1], 6, "reflect"))


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("HorizontalFlp", UnknownNameError, "Did you mean HorizontalFlip"),
        ("Compose", UnknownNameError, "transform in data.augment 'Compose'"),
        ({"RandomScale": {"scale_limt": 0.1}}, ConfigError, "RandomScale has no argument 'scale_limt'. Did you mean "
         "scale_limit.* arguments: scale_limit, interpolation"),
        ({"RandomScale": {"scale_limit": "much"}}, ConfigError, "1: RandomScale refuses.*scale_limit.*'much'"),
        ({"HorizontalFlip": {"p": 1.5}}, ConfigError, "HorizontalFlip refuses.*p: "),
        ("RandomCrop", ConfigError, "height: Field required; width: Field required"),
        ({"OneOf": {"transforms": ["Blur", {"GaussianBlur": {"x": 2}}]}}, ConfigError,
         "transform 1, OneOf, transform 2: GaussianBlur has no argument 'x'"),
        ({"OneOf": {}}, ConfigError, "OneOf needs the argument transforms"),
        ({"OneOf": {"transforms": "Blur"}}, ConfigError, "must be a list"),
        ({"SomeOf": {"transforms": ["Blur"], "k": 2}}, ConfigError, "SomeOf has no argument 'k'"),
        ({"Pad": {"border_mode": "cv2.BORDER_X"}}, ConfigError, "no constant cv2.BORDER_X"),
        ({"Blur": 3}, ConfigError, "is not a transform"),
        ({"Blur": {}, "Pad": {}}, ConfigError, "is not a transform"),
        (7, ConfigError, "7 is not a transform"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_unusable_entries_are_refused_when_validated(entry, error, message):
    with pytest.raises(error, match=message):
        validate_transforms([entry])


def test_validation_takes_lists_only_and_accepts_what_is_right():
    for wrong in ("Blur", {"Blur": {}}, None, 3):
        with pytest.raises(ConfigError, match="must be a list"):
            validate_transforms(wrong)
    validate_transforms(MIXED)
    validate_transforms([])


def test_a_crop_larger_than_the_image_says_what_to_do(image, mask):
    with pytest.raises(DataError, match=r"96 x 72.*PadIfNeeded or Resize"):
        Augmentation([{"RandomCrop": {"height": 100, "width": 100}}], IGNORE)(image, mask, 0)


@pytest.mark.parametrize("name", ["Normalize", "ToFloat"])
def test_transforms_that_leave_uint8_are_refused(name):
    with pytest.raises(ConfigError, match=rf"{name} changes the type or range of pixels, which the model scales"):
        Augmentation([{name: {"p": 1.0}}], IGNORE)


def test_albumentations_comes_without_pytorch_and_its_tensors_when_they_are_asked_for():
    pytest.importorskip("torch")
    code = (
        "import sys, segzoo.data.augmentation, albumentations as A; print('torch' in sys.modules);"
        "print(A.ToTensorV2.__module__, 'torch' in sys.modules, hasattr(A, 'ToTensor4D'))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["False", "albumentations.pytorch.transforms True False"]


def test_albumentations_comes_without_the_hub_and_special_functions_and_with_them_when_they_are_used():
    code = """
import sys, segzoo.data.augmentation, albumentations as A
from importlib.util import find_spec
assert not {"huggingface_hub", "scipy.special"} & set(sys.modules)
import numpy as np
from scipy.special import expit
assert A.augmentations.pixel.transforms.special.expit(0.0) == expit(0.0) == 0.5
from albumentations.core import hub_mixin
if find_spec("huggingface_hub"):
    import huggingface_hub
    try:
        A.Compose.from_pretrained("segzoo/none-of-this-name", local_files_only=True, cache_dir=sys.argv[1])
    except (OSError, ValueError) as error:  # huggingface_hub's own answer
        assert "huggingface_hub" in type(error).__module__, error
    else:
        raise SystemExit("it was found")
    assert hub_mixin.hf_hub_download is huggingface_hub.hf_hub_download and hub_mixin.HfApi is huggingface_hub.HfApi
    assert hub_mixin.is_huggingface_hub_available is True
"""
    with tempfile.TemporaryDirectory() as folder:
        shown = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr
