"""Names, defaults and types of the arguments of a class or function."""

from segzoo.arguments import arguments_of, defaults_of, takes_any_name, types_of


class Hidden:
    """As a Keras layer: its __new__ hides what __init__ takes."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, size: int, *rest: int, mode: str = "a", **kwargs: float):
        pass


def test_a_constructor() -> None:
    assert arguments_of(Hidden) == ["size", "mode"]
    assert arguments_of(Hidden, {"size"}) == ["mode"]
    assert arguments_of(Hidden, keyword_only=True) == ["mode"]
    assert defaults_of(Hidden) == {"mode": "a"}
    assert takes_any_name(Hidden)
    assert types_of(Hidden)["size"] is int


def test_a_function() -> None:
    def made(images, masks=None):
        pass

    assert arguments_of(made) == ["images", "masks"] and defaults_of(made) == {"masks": None}
    assert not takes_any_name(made)
