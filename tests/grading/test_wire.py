"""The wire's decoder takes anything and gives a value or `ProtocolError`, nothing else."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rnncourse.grading.inside.wire import (
    MAX_NODES,
    Connection,
    Decoder,
    Encoder,
    NotSendableError,
    ProtocolError,
)


def refuse(value: Any) -> Any:
    raise NotSendableError(type(value).__name__)


def unknown(node: list[Any]) -> Any:
    raise ProtocolError("unknown value")


def there_and_back(value: Any) -> Any:
    encoder = Encoder(refuse)
    node = encoder.encode(value)
    return Decoder(encoder.buffers, unknown).decode(json.loads(json.dumps(node)))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(max_size=50)
    | st.builds(slice, st.none() | st.integers(-9, 9), st.integers(-9, 9))
    | st.just(...)
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.sampled_from([int, ValueError, np.float32])
    | st.lists(st.integers()).map(deque)
    | st.text(max_size=5).map(Counter)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_values_arrive_unchanged(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


@given(
    hnp.arrays(
        hnp.boolean_dtypes()
        | hnp.integer_dtypes(endianness="?")
        | hnp.floating_dtypes(endianness="?")
        | hnp.complex_number_dtypes(endianness="?")
        | hnp.datetime64_dtypes(),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_arrays_arrive_unchanged(array: np.ndarray[Any, Any]) -> None:
    back = there_and_back(array)
    assert back.shape == array.shape and back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    assert type(back) is np.ndarray and back.flags.writeable and back.flags.owndata


KINDS = [
    *("list", "tuple", "dict", "set", "frozenset", "array", "scalar", "texts", "int", "complex"),
    *("bytes", "slice", "range", "ellipsis", "namedtuple", "dtype", "generator", "tensor"),
    *("torch_dtype", "remote", "callback", "pickle", "same", "type", "value", "instance", "member"),
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["<f8", "|b1", "|O8", "|V4", "<M8[s]", "<U3", "Decimal", "date", "PCG64", "MT19937", *KINDS]
    ),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(st.sampled_from(KINDS), inner, inner).map(list)
        | st.tuples(st.sampled_from(KINDS), inner).map(list)
        | st.tuples(
            st.just("array"),
            st.sampled_from(["<f8", "|u1", "|b1", "<c16", "|O", "<f16"]),
            st.lists(st.integers(-2, 9), max_size=4),
            st.integers(-1, 3),
        ).map(list)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=30,
)


@settings(max_examples=600)
@given(json_values, st.lists(st.binary(max_size=80), max_size=3))
def test_decoder_survives_anything(node: Any, buffers: list[bytes]) -> None:
    try:
        value = Decoder(buffers, unknown).decode(node)
    except ProtocolError:
        return
    if isinstance(value, np.ndarray):
        assert value.dtype.kind in "biufcmMU"


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: struct.pack(">I", len(b)) + b)
)
def test_connection_survives_anything(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        with pytest.raises((ProtocolError, EOFError)):
            header, buffers = Connection(ours).receive(time.monotonic() + 5)
            Decoder(buffers, unknown).decode(["nothing", header])


def test_forged_booleans_count_as_one() -> None:
    value = Decoder([b"\x00\x02\xff\x01"], unknown).decode(["array", "|b1", [4], 0])
    assert value.sum() == 3 and value.tobytes() == b"\x00\x01\x01\x01"


def test_a_buffer_is_used_once() -> None:
    node = ["list", [["array", "|u1", [4], 0], ["array", "|u1", [4], 0]]]
    with pytest.raises(ProtocolError, match="twice"):
        Decoder([b"1234"], unknown).decode(node)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [0] * (MAX_NODES + 1),
        lambda: np.zeros(65 << 20, np.uint8),
        lambda: 1 << 200_000,
        lambda: np.array([object()]),
        lambda: object(),
    ],
)
def test_what_is_too_much_is_not_sent(make: Callable[[], Any]) -> None:
    with pytest.raises(NotSendableError):
        there_and_back(make())


def test_generators_travel_by_value() -> None:
    rng = np.random.default_rng(3)
    there = there_and_back(rng)
    assert np.array_equal(there.normal(size=5), np.random.default_rng(3).normal(size=5))
    assert np.array_equal(rng.normal(size=5), np.random.default_rng(3).normal(size=5))


def test_deadline_holds_against_a_dripping_sender() -> None:
    ours, theirs = socket.socketpair()

    def drip() -> None:
        try:
            theirs.sendall(struct.pack(">I", 1000))
            while True:
                theirs.sendall(b" ")
                time.sleep(0.02)
        except OSError:
            return

    threading.Thread(target=drip, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        Connection(ours).receive(started + 0.3)
    assert time.monotonic() - started < 3
    ours.close()


def test_what_is_one_object_stays_one() -> None:
    row = [0, 0]
    grid = there_and_back([row, row, {"k": row}])
    grid[0][0] = 1
    assert grid == [[1, 0], [1, 0], {"k": [1, 0]}]


def test_a_masked_array_is_not_sent_without_its_mask() -> None:
    assert type(there_and_back(np.ma.array([1.0, 2.0]))) is np.ndarray
    with pytest.raises(NotSendableError):
        there_and_back(np.ma.array([1.0, 2.0], mask=[True, False]))
