"""Shape and dtype checks whose messages say what came, what was expected and why."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_array(name: str, value: ArrayLike) -> np.ndarray[Any, np.dtype[Any]]:
    """Return `value` as an array; ``ValueError`` if it is a nested sequence with uneven rows.

    Examples
    --------
    >>> as_array("tokens", [[1, 2], [3]])
    Traceback (most recent call last):
        ...
    ValueError: tokens is no array, its rows differ in length or in kind; rnncourse.sequences.pad
    makes sequences equally long
    """
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name} is no array, its rows differ in length or in kind; rnncourse.sequences.pad "
            "makes sequences equally long"
        ) from None


def as_float(name: str, value: ArrayLike) -> Array:
    """Return `value` as a float array: float32 and float64 are kept, integers become float64.

    Parameters
    ----------
    name : str
        What the argument is called in error messages.
    value : array_like

    Returns
    -------
    ndarray
        The same object where it already is a float32 or float64 array.

    Raises
    ------
    TypeError
        If `value` does not hold real numbers.
    ValueError
        If it is a nested sequence whose rows differ in length.

    Examples
    --------
    >>> as_float("x", [1, 2]).dtype
    dtype('float64')
    """
    array = as_array(name, value)
    if array.dtype in FLOATS:
        return array
    native = array.dtype.newbyteorder("=")
    if native in FLOATS:
        return array.astype(native)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    raise TypeError(
        f"{name} must hold float32, float64 or integers, but its dtype is {array.dtype}"
    )


def as_floats(name: str, arrays: Mapping[Any, ArrayLike], *keys: str) -> dict[Any, Array]:
    """Return a dict of float arrays; see :func:`check_keys` and :func:`as_float` for its errors.

    Examples
    --------
    >>> as_floats("grads", {"W_hh": [1, 2]})
    {'W_hh': array([1., 2.])}
    """
    check_keys(name, arrays, *keys)
    return {key: as_float(f"{name}[{key!r}]", array) for key, array in arrays.items()}


def as_index(name: str, value: ArrayLike, upper: int | None = None) -> IntArray:
    """Return `value` as an integer array with entries in ``[0, upper)``.

    Parameters
    ----------
    name : str
        What the argument is called in error messages.
    value : array_like of int
    upper : int, optional
        Number of classes or tokens; no upper check without it.

    Returns
    -------
    ndarray of int

    Raises
    ------
    TypeError
        If `value` does not hold integers.
    ValueError
        If an entry is negative or not below `upper`.

    Examples
    --------
    >>> as_index("tokens", [0, 5], upper=4)
    Traceback (most recent call last):
        ...
    ValueError: tokens holds 5, but indices must lie in [0, 4)
    """
    array = as_array(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, but its dtype is {array.dtype}")
    if array.size:
        for worst in (int(array.min()), int(array.max())):
            if worst < 0 or (upper is not None and worst >= upper):
                bound = f"[0, {upper})" if upper is not None else "[0, inf)"
                raise ValueError(f"{name} holds {worst}, but indices must lie in {bound}")
    return array


def check_shapes(**arrays: tuple[Any, str]) -> dict[str, int]:
    """Check that named axes agree and return their sizes.

    Each keyword is an argument's name with the array and its axes, as in ``x=(x, "T B D")``. The
    first argument that uses an axis fixes its size; an axis called by a number has that size.

    Returns
    -------
    dict
        Size of every axis.

    Raises
    ------
    ValueError
        If an array has another number of axes, an axis of another size than before, or an empty
        axis.

    Examples
    --------
    >>> check_shapes(x=(np.ones((7, 2, 3)), "T B D"))
    {'T': 7, 'B': 2, 'D': 3}
    >>> check_shapes(x_t=(np.ones((2, 3)), "B D"), W_xh=(np.ones((4, 5)), "H D"))
    Traceback (most recent call last):
        ...
    ValueError: W_xh has shape (4, 5), expected (H, D) = (H, 3): D = 3 comes from x_t, shape (2, 3)
    """
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}

    def expected(name: str, axes: list[str]) -> str:
        known = (str(sizes[a]) if a in sizes and origin.get(a) != name else a for a in axes)
        return f"({', '.join(axes)}) = ({', '.join(known)})"

    for name, (array, axes_text) in arrays.items():
        axes, shape = axes_text.split(), array.shape
        if len(shape) != len(axes):
            raise ValueError(
                f"{name} has shape {shape} with {len(shape)} axes, "
                f"expected {len(axes)} axes {expected(name, axes)}"
            )
        for axis, size in zip(axes, shape, strict=True):
            if size == 0:
                raise ValueError(f"{name} has shape {shape}: axis {axis} must not be empty")
            if axis.isdigit() and size != int(axis):
                raise ValueError(f"{name} has shape {shape}, expected {expected(name, axes)}")
            if sizes.setdefault(axis, size) != size:
                source = origin.get(axis, name)
                raise ValueError(
                    f"{name} has shape {shape}, expected {expected(name, axes)}: "
                    f"{axis} = {sizes[axis]} comes from {source}, shape {arrays[source][0].shape}"
                )
            origin.setdefault(axis, name)
    return sizes


def as_mask(name: str, value: ArrayLike, shape: tuple[int, ...], of: str) -> Mask:
    """Return `value` as a boolean array of the shape that the argument `of` demands.

    Raises
    ------
    ValueError
        If the shape is another one.
    TypeError
        If an entry is neither boolean nor 0 or 1.

    Examples
    --------
    >>> as_mask("mask", [1, 0], (2,), of="loss")
    array([ True, False])
    """
    mask = as_array(name, value)
    if mask.shape != shape:
        raise ValueError(f"{name} has shape {mask.shape}, expected {shape}, the shape of {of}")
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise TypeError(f"{name} must be boolean or hold only 0 and 1")
    return mask.astype(bool)


def check_keys(name: str, params: Mapping[str, Any], *keys: str) -> None:
    """Raise ``ValueError`` unless a dict of arrays has all keys, ``TypeError`` if it is no dict.

    Examples
    --------
    >>> check_keys("forward", {"W_xh": 0, "W_hh": 0}, "W_xh", "W_hh", "b_h")
    Traceback (most recent call last):
        ...
    ValueError: forward lacks b_h; it holds W_hh, W_xh
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"{name} must be a dict of arrays, but it is a {type(params).__name__}")
    missing = [key for key in keys if key not in params]
    if missing:
        holds = ", ".join(sorted(map(str, params))) or "nothing"
        raise ValueError(f"{name} lacks {', '.join(missing)}; it holds {holds}")


def check_size(smallest: int = 1, **sizes: int) -> None:
    """Raise ``ValueError`` for a number below `smallest`, ``TypeError`` if it is no integer.

    Examples
    --------
    >>> check_size(batch=8, steps=0)
    Traceback (most recent call last):
        ...
    ValueError: steps must be at least 1, but it is 0
    """
    for name, size in sizes.items():
        try:
            operator.index(size)
        except TypeError:
            raise TypeError(f"{name} must be an integer, but it is {size!r}") from None
        if size < smallest:
            raise ValueError(f"{name} must be at least {smallest}, but it is {size}")


def check_dtype(dtype: Any) -> None:
    """Raise ``TypeError`` unless `dtype` means float32 or float64.

    Examples
    --------
    >>> check_dtype(int)
    Traceback (most recent call last):
        ...
    TypeError: dtype must be float32 or float64, but it is <class 'int'>
    """
    try:
        known = dtype is not None and np.dtype(dtype) in FLOATS
    except TypeError:
        known = False
    if not known:
        raise TypeError(f"dtype must be float32 or float64, but it is {dtype!r}")


def check_rng(rng: np.random.Generator) -> None:
    """Raise ``TypeError`` unless `rng` is a generator: a seed would draw the same at every call.

    Examples
    --------
    >>> check_rng(0)
    Traceback (most recent call last):
        ...
    TypeError: rng must be a numpy.random.Generator, such as numpy.random.default_rng(0), but it is
    0
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            "rng must be a numpy.random.Generator, such as numpy.random.default_rng(0), "
            f"but it is {rng!r}"
        )


def check_number(name: str, value: float) -> None:
    """Raise ``TypeError`` unless `value` is a real number.

    Examples
    --------
    >>> check_number("eps", "0.5")
    Traceback (most recent call last):
        ...
    TypeError: eps must be a number, but it is '0.5'
    """
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a number, but it is {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise ``ValueError`` unless `value` is a positive finite number, ``TypeError`` if it is none.

    Examples
    --------
    >>> check_positive("max_norm", -1.0)
    Traceback (most recent call last):
        ...
    ValueError: max_norm must be positive and finite, but it is -1.0
    """
    check_number(name, value)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, but it is {value}")


def as_finite(name: str, arrays: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Return a dict of float arrays; ``ValueError`` names the first that holds NaN or infinity.

    Examples
    --------
    >>> as_finite("grads", {"W_hh": np.array([1.0, np.nan])})
    Traceback (most recent call last):
        ...
    ValueError: grads['W_hh'] holds NaN or infinity in 1 of 2 entries; skip this update and look for
    its cause
    """
    floats = as_floats(name, arrays)
    for key, array in floats.items():
        if bad := _not_finite(array):
            raise ValueError(
                f"{name}[{key!r}] holds {bad}; skip this update and look for its cause"
            )
    return floats


def check_alike(**dicts: Mapping[str, Array]) -> None:
    """Raise ``ValueError`` unless two dicts of arrays have the same keys and shapes.

    Examples
    --------
    >>> check_alike(params={"w": np.ones(2)}, grads={"w": np.ones(3)})
    Traceback (most recent call last):
        ...
    ValueError: grads['w'] has shape (3,), expected (2,), the shape of params['w']
    """
    (first, a), (second, b) = dicts.items()
    if a.keys() != b.keys():
        raise ValueError(
            f"{first} has the keys {sorted(a)} and {second} has {sorted(b)}; they must agree"
        )
    for key in a:
        if a[key].shape != b[key].shape:
            raise ValueError(
                f"{second}[{key!r}] has shape {b[key].shape}, expected {a[key].shape}, "
                f"the shape of {first}[{key!r}]"
            )


def check_all_finite(**arrays: Array) -> None:
    """Raise ``ValueError`` naming the first array that holds NaN or infinity.

    Examples
    --------
    >>> check_all_finite(W_hh=np.array([[1.0, np.nan]]))
    Traceback (most recent call last):
        ...
    ValueError: W_hh, shape (1, 2), holds NaN or infinity in 1 of 2 entries
    """
    for name, array in arrays.items():
        if bad := _not_finite(array):
            raise ValueError(f"{name}, shape {array.shape}, holds {bad}")


def _not_finite(array: Array) -> str:
    """Say how many entries are NaN or infinite; empty if none is."""
    bad = array.size - np.count_nonzero(np.isfinite(array))
    return f"NaN or infinity in {bad} of {array.size} entries" if bad else ""
