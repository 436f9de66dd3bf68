import json
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from evaluator.exceptions import InvalidCheckpoint
from evaluator.safetensors_header import MAX_HEADER_BYTES, MAX_TENSORS, read_header

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TWO = {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}


def file_of(fields, data: bytes) -> bytes:
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return len(text).to_bytes(8, "little") + text + data


def written(tmp_path, content: bytes):
    path = tmp_path / "sent.safetensors"
    path.write_bytes(content)
    return path


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@settings(max_examples=50)
@given(shapes=st.dictionaries(st.text(min_size=1, max_size=10), shapes, min_size=1, max_size=6))
def test_what_the_library_writes_is_read_back_in_full(tmp_path_factory, shapes):
    path = tmp_path_factory.mktemp("files") / "sent.safetensors"
    shapes.pop("__metadata__", None)
    shapes["w"] = (3,)
    path.write_bytes(save({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, {"manifest": "ü"}))
    header = read_header(path)
    assert {name: info.shape for name, info in header.tensors.items()} == shapes
    assert {info.dtype for info in header.tensors.values()} == {"F32"}
    assert header.metadata == {"manifest": "ü"}
    assert header.file_bytes == path.stat().st_size
    assert header.numbers == sum(int(np.prod(shape)) for shape in shapes.values())


def test_counters_are_not_counted_among_the_numbers(tmp_path):
    path = written(tmp_path, save({"w": np.zeros((3, 2), np.float32), "n": np.array(7)}))
    assert read_header(path).numbers == 6


REFUSED = {
    "missing shape": (file_of({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "'a' is declared without"),
    "not a tensor": (file_of({"a": 3}, b""), "'a' is declared without"),
    "integer weights": (file_of({"a": {**ONE, "dtype": "I32"}}, bytes(8)), "dtype 'I32'; accepted are F16, BF16, F32"),
    "dtype is a list": (file_of({"a": {**ONE, "dtype": ["F32"]}}, bytes(8)), "'a' has dtype"),
    "negative size": (file_of({"a": {**ONE, "shape": [-2]}}, bytes(8)), r"'a' has shape \[-2\]"),
    "boolean size": (file_of({"a": {**ONE, "shape": [True]}}, bytes(8)), r"'a' has shape \[True\]"),
    "huge size": (file_of({"a": {**ONE, "shape": [2**70]}}, bytes(8)), "'a' has shape"),
    "nine dimensions": (file_of({"a": {**ONE, "shape": [1] * 9}}, bytes(8)), "at most 8 sizes"),
    "three offsets": (file_of({"a": {**ONE, "data_offsets": [0, 8, 8]}}, bytes(8)), "expected were two byte positions"),
    "offsets backwards": (file_of({"a": {**ONE, "data_offsets": [8, 0]}}, bytes(8)), "needs 8 bytes and is given -8"),
    "shape and bytes": (file_of({"a": {**ONE, "shape": [3]}}, bytes(8)), "needs 12 bytes and is given 8"),
    "overlap": (
        file_of({"a": ONE, "b": {**TWO, "data_offsets": [4, 8]}}, bytes(8)),
        "'b' begins at byte 4 .* ends at 8",
    ),
    "gap": (file_of({"a": ONE, "b": {**TWO, "data_offsets": [12, 16]}}, bytes(16)), "'b' begins at byte 12 .* at 8"),
    "truncated data": (file_of({"a": ONE, "b": TWO}, bytes(11)), "truncated: its tensors need 12 bytes and 11"),
    "trailing bytes": (file_of({"a": ONE}, bytes(9)), "1 bytes after its last tensor"),
    "truncated header": (file_of({"a": ONE}, b"")[:20], "truncated: its header ends at byte .* the file at 20"),
    "empty": (b"", "0 bytes and no safetensors header"),
    "seven bytes": (b"1234567", "7 bytes and no safetensors header"),
    "zeros": (bytes(100), "no safetensors header"),
    "huge header": ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}", f"header of {MAX_HEADER_BYTES + 1} bytes"),
    "duplicate tensor": (file_of(b'{"a":%s,"a":%s}' % ((json.dumps(ONE).encode(),) * 2), bytes(8)), "key 'a' twice"),
    "duplicate field": (file_of(b'{"a":{"dtype":"F32","dtype":"F64"}}', b""), "key 'dtype' twice"),
    "not JSON": (file_of(b"{a}", b""), "not valid JSON"),
    "not UTF-8": (file_of(b'{"\xff\xfe":1}', b""), "not valid JSON"),
    "NaN": (file_of(b'{"a":NaN}', b""), "NaN is not JSON"),
    "endless digits": (file_of(b'{"a":' + b"9" * 10_000 + b"}", b""), "not valid JSON"),
    "nested": (file_of(b"[" * 1_000_000, b""), "not valid JSON"),
    "a list": (file_of([ONE], b""), "JSON list"),
    "no tensors": (file_of({"__metadata__": {}}, b""), "declares 0 tensors"),
    "too many tensors": (
        file_of({f"{i}": {**ONE, "shape": [0], "data_offsets": [0, 0]} for i in range(MAX_TENSORS + 1)}, b""),
        f"declares {MAX_TENSORS + 1} tensors",
    ),
    "metadata of numbers": (file_of({"__metadata__": {"manifest": 1}, "a": ONE}, bytes(8)), "__metadata__ is not"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_file_is_refused_with_one_precise_sentence(tmp_path, case):
    content, sentence = REFUSED[case]
    with pytest.raises(InvalidCheckpoint, match=sentence) as refusal:
        read_header(written(tmp_path, content))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_every_truncation_of_a_good_file_is_refused(tmp_path):
    whole = save({"a": np.ones((2, 3), np.float32), "n": np.array(1)}, {"manifest": "{}"})
    for length in range(len(whole)):
        with pytest.raises(InvalidCheckpoint):
            read_header(written(tmp_path, whole[:length]))
    read_header(written(tmp_path, whole))


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidCheckpoint, match=re.escape(str(tmp_path / "absent"))):
        read_header(tmp_path / "absent")


def test_a_header_of_a_hundred_thousand_keys_costs_little_memory(tmp_path):
    keys = b",".join(b'"%x":{}' % i for i in range(150_000)) + b',"0":{}'
    path = written(tmp_path, file_of(b"{" + keys + b"}", b""))
    tracemalloc.start()
    with pytest.raises(InvalidCheckpoint, match="key '0' twice"):
        read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000_000
