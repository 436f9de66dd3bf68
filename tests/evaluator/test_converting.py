"""State dicts of `torch.save` are read as torch reads them, without torch and without unpickling."""

import io
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import nn

from evaluator.converting import REFUSED, convert
from evaluator.exceptions import InvalidCheckpoint
from evaluator.pickle_scan import scan
from evaluator.safetensors_header import read_header
from tests.evaluator.hostile import good, zip_of


def converted(state, folder):
    path, output = folder / "sent.pt", io.BytesIO()
    torch.save(state, path)
    convert(path, output)
    return output.getvalue()


def assert_same(state, data):
    loaded = load(data)
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_a_networks_state_comes_out_bit_for_bit_and_its_header_is_one_we_read(tmp_path):
    state = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2)).state_dict()
    data = converted(state, tmp_path)
    assert_same(state, data)
    (tmp_path / "out").write_bytes(data)
    assert list(read_header(tmp_path / "out").tensors) == list(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_every_accepted_kind_of_number_comes_out_bit_for_bit(tmp_path, dtype):
    state = {"w": torch.arange(-6, 6).reshape(3, 4).to(dtype)}
    assert_same(state, converted(state, tmp_path))


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(0, 3), max_size=4),
    order=st.randoms(use_true_random=False),
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10),
)
def test_any_shape_in_any_order_of_dimensions_comes_out_as_torch_reads_it(tmp_path_factory, shape, order, name):
    dimensions = list(range(len(shape)))
    order.shuffle(dimensions)
    tensor = torch.rand(shape, generator=torch.Generator().manual_seed(0)).permute(dimensions)
    state = {name: tensor}
    assert_same(state, converted(state, tmp_path_factory.getbasetemp()))


def test_parameters_windows_and_a_plain_dictionary_are_read_too(tmp_path):
    whole = torch.arange(10.0)
    state = OrderedDict(a=nn.Parameter(torch.ones(2, 3)), left=whole[:4], right=whole[4:])
    assert_same(state, converted(state, tmp_path))
    assert_same(dict(state), converted(dict(state), tmp_path))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"model": {"w": torch.ones(2)}}, "holds a dictionary under 'model' beside its tensors; send model.state_dict"),
        ({"w": torch.ones(2), "epoch": 3}, "holds a int under 'epoch'"),
        ({"w": torch.ones(1).expand(5)}, "not side by side"),
        ({"w": torch.ones(4)[::2]}, "not side by side"),
        ({"a": (tied := torch.ones(2)), "b": tied}, "tensors of 16 bytes share the 8 bytes"),
        ({"w": torch.ones(2).to_sparse()}, "would import 'torch._utils._rebuild_sparse_tensor'"),
        ({"w": torch.ones(2, dtype=torch.int32)}, "would import 'torch.IntStorage'"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "would import 'torch.ComplexFloatStorage'"),
        (nn.Linear(1, 1), "would import 'torch.nn.modules.linear.Linear'"),
        (torch.ones(2), "holds a tensor where a state dict was expected"),
    ],
)
def test_what_torch_saves_besides_is_refused_with_what_to_send(tmp_path, value, sentence):
    torch.save(value, tmp_path / "sent.pt")
    with pytest.raises(InvalidCheckpoint, match=sentence):
        scan(tmp_path / "sent.pt")


def run(path):
    command = [sys.executable, "-c", NO_TORCH, "evaluator.converting", str(path)]
    return subprocess.run(command, capture_output=True, check=False)


NO_TORCH = """
import runpy, sys
sys.modules["torch"] = None
sys.argv[:] = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def test_the_program_writes_to_its_output_and_needs_no_torch(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "sent.pt")
    finished = run(tmp_path / "sent.pt")
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert_same({"w": torch.ones(3)}, finished.stdout)
    (tmp_path / "bad.pt").write_bytes(zip_of(good() + b"x"))
    finished = run(tmp_path / "bad.pt")
    assert (finished.returncode, finished.stdout) == (REFUSED, b"")
    assert finished.stderr == b"the pickle goes on after its end, or ends before; save the file again\n"
