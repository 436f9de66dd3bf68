import pytest
import torch
from torch import nn

from trainers.after_step import AFTER_STEP, Averaging, Clipping, attach


def scalar(value: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_the_average_starts_at_the_first_update_and_decays() -> None:
    model = scalar(7.0)
    part = Averaging(model, decay=0.9)
    seen = []
    for value in (1.0, 2.0, 4.0):
        nn.init.constant_(model.weight, value)
        part.update()
        seen.append(part.outcome.weight.item())
    assert seen == pytest.approx([1.0, 0.9 * 1 + 0.1 * 2, 0.9 * 1.1 + 0.1 * 4])


def test_running_statistics_are_copied_not_averaged() -> None:
    model = nn.BatchNorm2d(2)
    part = Averaging(model, decay=0.9)
    for mean in (1.0, 5.0):
        model.running_mean.fill_(mean)
        model.weight.data.fill_(mean)
        part.update()
    assert part.outcome.running_mean.tolist() == [5.0, 5.0]
    assert part.outcome.weight.tolist() == pytest.approx([1.4, 1.4])


def test_a_restored_average_goes_on_as_if_never_interrupted() -> None:
    model, other = scalar(1.0), scalar(9.0)
    part, fresh = Averaging(model, decay=0.5), Averaging(other, decay=0.5)
    part.update()
    fresh.load_state_dict(part.state_dict())
    for network, average in ((model, part), (other, fresh)):
        nn.init.constant_(network.weight, 3.0)
        average.update()
    assert fresh.outcome.weight.item() == part.outcome.weight.item() == 2.0


@pytest.mark.parametrize("layers", ["convolutional-and-linear", "all"])
def test_clipping_bounds_the_chosen_layers_and_nothing_that_is_not_trained(layers: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1).requires_grad_(False), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)
    )
    for parameter in model.parameters():
        nn.init.constant_(parameter, -0.5)
    part = Clipping(model, maximum=0.1, layers=layers)  # type: ignore[arg-type]  # parametrised
    for _ in range(2):
        extremes = {name: parameter.detach().unique().tolist() for name, parameter in model.named_parameters()}
        bounded = [pytest.approx(-0.1)]
        norm = bounded if layers == "all" else [-0.5]
        assert extremes == {
            "0.weight": [-0.5], "0.bias": [-0.5], "1.weight": bounded, "1.bias": bounded,
            "2.weight": norm, "2.bias": norm, "4.weight": bounded, "4.bias": bounded,
        }  # fmt: skip
        for parameter in model.parameters():
            nn.init.constant_(parameter, -0.5)
        part.update()


def test_a_part_acts_after_every_step_of_the_optimizer() -> None:
    model = scalar(0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    attach(Clipping(model, maximum=0.1, layers="convolutional-and-linear"), optimizer)
    (-model.weight.sum()).backward()
    optimizer.step()
    assert model.weight.item() == pytest.approx(0.1)


def test_no_part_is_left_untested() -> None:
    assert set(AFTER_STEP) == {"averaging", "clipping"}
