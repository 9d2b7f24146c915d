"""The messages of shape checks say what came, what was expected and which argument says so."""

from __future__ import annotations

import numpy as np
import pytest

from rnncourse._validation import as_finite, as_float, as_index, check_positive, check_shapes


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": (np.ones((7, 2)), "T B D")},
            "x has shape (7, 2) with 2 axes, expected 3 axes (T, B, D) = (T, B, D)",
        ),
        (
            {"x": (np.ones((7, 2, 3)), "T B D"), "h0": (np.ones(2), "B H")},
            "h0 has shape (2,) with 1 axes, expected 2 axes (B, H) = (2, H)",
        ),
        (
            {"x": (np.ones((7, 2, 3)), "T B D"), "W_xh": (np.ones((4, 5)), "H D")},
            "W_xh has shape (4, 5), expected (H, D) = (H, 3): D = 3 comes from x, shape (7, 2, 3)",
        ),
        (
            {"W_hh": (np.ones((4, 5)), "H H")},
            "W_hh has shape (4, 5), expected (H, H) = (H, H): H = 4 comes from W_hh, shape (4, 5)",
        ),
        ({"x": (np.ones((0, 2)), "B D")}, "x has shape (0, 2): axis B must not be empty"),
    ],
)
def test_shape_messages(arrays, message):
    with pytest.raises(ValueError) as error:
        check_shapes(**arrays)
    assert str(error.value) == message


def test_sizes_come_back():
    assert check_shapes(x=(np.ones((7, 2, 3)), "T B D"), h0=(np.ones((2, 5)), "B H")) == {
        "T": 7,
        "B": 2,
        "D": 3,
        "H": 5,
    }


def test_as_float_keeps_floats_and_converts_integers():
    for dtype in (np.float32, np.float64):
        a = np.ones(3, dtype)
        assert as_float("a", a) is a
    for value in ([1, 2], np.array([True]), np.array([3], np.uint8)):
        assert as_float("a", value).dtype == np.float64
    for value in (["x"], [1j], np.ones(2, np.float16), [None]):
        with pytest.raises(TypeError, match="a must hold float32"):
            as_float("a", value)


def test_as_index_bounds():
    np.testing.assert_array_equal(as_index("i", [0, 3], 4), [0, 3])
    assert as_index("i", np.zeros(0, int), 4).size == 0
    for value, message in (([4], "holds 4"), ([-1], "holds -1")):
        with pytest.raises(ValueError, match=message):
            as_index("i", value, 4)
    with pytest.raises(TypeError, match="must hold integers"):
        as_index("i", [1.0])


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_check_positive(value):
    with pytest.raises(ValueError, match="eps must be positive and finite"):
        check_positive("eps", value)


def test_as_finite_names_the_array():
    as_finite("grads", {"W": np.ones(2)})
    with pytest.raises(ValueError, match=r"grads\['b'\] holds NaN or infinity in 2 of 3"):
        as_finite("grads", {"W": np.ones(2), "b": np.array([1.0, np.inf, np.nan])})


def test_ragged_input_is_named():
    with pytest.raises(ValueError, match="x is no array"):
        as_float("x", [[1.0, 2.0], [3.0]])


def test_foreign_byte_order_becomes_native():
    array = as_float("x", np.array([1.0, 2.0], ">f4"))
    assert array.dtype == np.float32
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, [1, 2])


@pytest.mark.parametrize("value", ["1", None, [1.0], 1j])
def test_what_is_no_number_is_a_type_error(value):
    with pytest.raises(TypeError, match="max_norm must be a number"):
        check_positive("max_norm", value)


@pytest.mark.parametrize("value", [1, np.float32(0.5), np.array(2.0)])
def test_every_kind_of_real_number_passes(value):
    check_positive("max_norm", value)
