"""Whatever bytes come in: a refusal in one sentence, or a result that keeps its promises; never another error."""

import io
import json
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from evaluator.architectures import ARCHITECTURES, parse_options
from evaluator.converting import convert
from evaluator.exceptions import EvaluatorError, InvalidCheckpoint, InvalidRequest
from evaluator.formats import Format, recognize
from evaluator.manifest import Manifest, read_options
from evaluator.pickle_scan import scan
from evaluator.safetensors_header import DTYPE_BYTES, read_header
from tests.evaluator.hostile import TINY, state, tensor, text, zip_of

bounded = settings(max_examples=150)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPE_BYTES, "I8"]) | anything,
        "shape": st.lists(st.integers(-1, 4), max_size=4) | anything,
        "data_offsets": st.lists(st.integers(0, 40), min_size=2, max_size=2) | anything,
    }
)
flips = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    return tmp_path_factory.mktemp("sent") / "file"


def refused(error: EvaluatorError) -> None:
    assert "\n" not in str(error)
    assert str(error).isprintable()
    assert 20 < len(str(error)) < 800


def altered(whole: bytes, changes, within: int | None = None) -> bytes:
    result = bytearray(whole)
    for place, value in changes:
        result[place % (within or len(whole))] = value
    return bytes(result)


def check_header(path) -> None:
    try:
        header = read_header(path)
    except InvalidCheckpoint as error:
        refused(error)
        return
    end = 0
    for info in header.tensors.values():
        assert info.start == end
        end = info.stop
        assert info.stop - info.start == math.prod(info.shape) * DTYPE_BYTES[info.dtype]
    assert 8 + int.from_bytes(path.read_bytes()[:8], "little") + end == header.file_bytes


@bounded
@given(fields=st.dictionaries(st.text(max_size=6), entries | anything, max_size=4), data=st.binary(max_size=99))
def test_a_header_of_any_json_is_refused_or_fills_its_file(sent, fields, data):
    content = json.dumps(fields).encode()
    sent.write_bytes(len(content).to_bytes(8, "little") + content + data)
    check_header(sent)


@bounded
@given(content=st.binary(max_size=200))
def test_any_bytes_are_recognised_or_refused(sent, content):
    sent.write_bytes(content)
    try:
        assert recognize(sent) in Format
    except InvalidCheckpoint as error:
        refused(error)
    check_header(sent)


@bounded
@given(changes=flips)
def test_a_damaged_checkpoint_is_refused_or_fills_its_file(sent, changes):
    whole = TINY.read_bytes()
    sent.write_bytes(altered(whole, changes, within=8 + int.from_bytes(whole[:8], "little")))
    check_header(sent)


@bounded
@given(name=st.sampled_from(sorted(ARCHITECTURES)), data=st.data())
def test_any_options_are_refused_or_mean_the_same_when_said_again(name, data):
    known = st.sampled_from(sorted(ARCHITECTURES[name].options.model_fields)) | st.text(max_size=6)
    values = anything | st.sampled_from([18, 28, 32, "relu", "18", True, 1e400])
    raw = data.draw(st.dictionaries(known, values, max_size=3))
    try:
        options = parse_options(name, raw)
    except InvalidRequest as error:
        refused(error)
        return
    assert raw.keys() <= ARCHITECTURES[name].options.model_fields.keys()
    assert parse_options(name, options.model_dump(mode="json")) == options


@bounded
@given(content=st.text(max_size=60) | anything.map(json.dumps))
def test_any_text_is_options_in_json_or_refused(content):
    try:
        assert isinstance(read_options(content), dict)
    except InvalidRequest as error:
        refused(error)


@bounded
@given(
    content=st.text(max_size=60)
    | st.fixed_dictionaries(
        {"architecture": st.sampled_from(["digits-cnn"]) | anything, "dataset": st.just("digits") | anything},
        optional={"options": anything, "recipe": anything, "notes": anything, "schema_version": anything},
    ).map(json.dumps)
)
def test_any_text_is_a_manifest_that_survives_its_json_or_refused(content):
    try:
        manifest = Manifest.from_json(content)
    except InvalidCheckpoint as error:
        refused(error)
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


SAVED = state(text("w"), tensor(shape=(2, 2), strides=(2, 1)))
FRAGMENTS = [b"(", b")", b"}", b"R", b"Q", b"s", b"u", b"b", b"t", b"\x85", b"\x86", b"N", b"h\x00", b"q\x00", tensor()]


def read_as_torch_does(path) -> None:
    """What the scan lets through holds what torch reads from it, where torch reads it too."""
    try:
        scan(path)
    except InvalidCheckpoint as error:
        refused(error)
        return
    output = io.BytesIO()
    convert(path, output)
    ours, theirs = load(output.getvalue()), torch.load(path, map_location="cpu", weights_only=True)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


@bounded
@given(changes=flips)
def test_a_damaged_pickle_is_refused_or_read_as_torch_reads_it(sent, changes):
    sent.write_bytes(zip_of(altered(SAVED, changes)))
    read_as_torch_does(sent)


@bounded
@given(parts=st.lists(st.sampled_from([*FRAGMENTS, text("w"), text("v")]), max_size=12))
@example(parts=[b"q\x00", text("w"), tensor()])  # remembers what lies below the mark, which no unpickler does
def test_a_pickle_of_any_pieces_is_refused_or_read_as_torch_reads_it(sent, parts):
    sent.write_bytes(zip_of(state(*parts)))
    read_as_torch_does(sent)


@bounded
@given(changes=flips)
def test_a_damaged_zip_is_refused_or_converted(sent, changes):
    sent.write_bytes(altered(zip_of(SAVED), changes))
    try:
        if recognize(sent) is Format.TORCH:
            scan(sent)
            convert(sent, io.BytesIO())
    except InvalidCheckpoint as error:
        refused(error)
