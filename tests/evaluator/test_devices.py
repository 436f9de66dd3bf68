"""A device is found by its name or refused in a sentence, and tensors come to it unchanged."""

import pytest
import torch

from evaluator.devices import find_device, sent
from evaluator.exceptions import InvalidSetting


def test_on_a_cpu_a_tensor_is_already_there():
    draw = torch.ones(2)
    assert sent(draw, torch.device("cpu")) is draw


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gets_the_same_numbers():
    draw = torch.arange(5.0)
    there = sent(draw, find_device("cuda"))
    assert there.device.type == "cuda"
    assert torch.equal(there.cpu(), draw)


def test_a_device_that_is_not_there_is_refused_in_a_sentence():
    with pytest.raises(InvalidSetting, match="no device is called 'tpu'"):
        find_device("tpu")
