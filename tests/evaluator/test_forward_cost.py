import pytest
import torch

from evaluator.architectures import build, parse_options
from evaluator.dataset_facts import DATASET_FACTS
from evaluator.exceptions import InvalidRequest
from evaluator.forward_cost import check_affordable, forward_cost


def network(name, dataset, **options):
    with torch.device("meta"):
        return build(name, parse_options(name, options), DATASET_FACTS[dataset])


@pytest.mark.parametrize(("name", "billions"), [("resnet18", 1.814), ("vgg16_bn", 15.47), ("mobilenet_v2", 0.301)])
def test_operations_are_twice_the_multiplications_that_torchvision_publishes(name, billions):
    planned = network("torchvision", "cifar10", network=name, image_size=224)
    assert forward_cost(planned, (3, 32, 32)).flops / 2e9 == pytest.approx(billions, rel=0.01)


def test_all_layers_outputs_are_counted_and_the_plan_stays_a_plan():
    planned = network("digits-cnn", "digits", width=4).train()
    cost = forward_cost(planned, (1, 8, 8))
    assert cost.flops == 2 * (9 * 4 * 64 + 4 * 9 * 8 * 16 + 8 * 10)
    # normalisation; convolution, BatchNorm, activation at 8 and at 4 pixels; pooling, flattening, logits
    assert cost.activations == 64 + 3 * 4 * 64 + 3 * 8 * 16 + 8 + 8 + 10
    assert all(tensor.is_meta for tensor in planned.state_dict().values())
    assert planned.training
    assert not any("forward" in vars(module) or module._forward_hooks for module in planned.modules())


def test_the_largest_network_with_published_robust_weights_may_be_measured():
    check_affordable(network("wideresnet", "cifar10", depth=94, width=16), (3, 32, 32), "wideresnet")


def test_a_network_of_too_many_operations_is_refused_with_the_count():
    with pytest.raises(InvalidRequest, match=r"wideresnet .* needs 166 billion operations an image, .* 130 billion"):
        check_affordable(network("wideresnet", "cifar10", depth=94, width=20), (3, 32, 32), "wideresnet")


def test_a_network_that_puts_out_too_many_numbers_is_refused_with_the_count():
    with pytest.raises(InvalidRequest, match=r"puts out 185 million numbers an image, .* 100 million"):
        check_affordable(network("digits-cnn", "digits", width=64), (1, 800, 800), "digits-cnn")
