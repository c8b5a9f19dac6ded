import numpy as np

from segzoo.data import GeneratedShapes, presence, repeat_factors


def test_presence_is_what_the_masks_show():
    source = GeneratedShapes("train", 6, (64, 64))
    expected = [[label in source[index].mask for label in range(len(source.classes))] for index in range(6)]
    np.testing.assert_array_equal(presence(source), expected)


def test_presence_reads_a_source_once():
    class Counting(GeneratedShapes):
        reads = 0

        def __getitem__(self, index):
            type(self).reads += 1
            return super().__getitem__(index)

    first = presence(Counting("train", 5, (48, 48), seed=77))
    assert presence(Counting("train", 5, (48, 48), seed=77)) is first and Counting.reads == 5
    presence(Counting("train", 5, (48, 48), seed=78))
    assert Counting.reads == 10


def test_repeat_factors_are_the_formula_of_the_paper():
    shown = np.zeros((100, 3), bool)
    shown[:, 0] = True
    shown[:4, 1] = True
    shown[0, 2] = True
    found = repeat_factors(shown, 0.16)
    np.testing.assert_allclose(found[:4], [4.0, 2.0, 2.0, 2.0])  # sqrt(0.16 / 0.01), sqrt(0.16 / 0.04)
    np.testing.assert_array_equal(found[4:], 1.0)


def test_samples_without_any_class_come_once():
    assert repeat_factors(np.zeros((3, 2), bool), 0.5).tolist() == [1.0, 1.0, 1.0]
