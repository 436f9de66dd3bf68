import pytest
import torch

from trainers.sources import Augmented, Labelled


def source(
    *,
    count: int = 50,
    label_noise: float = 0.0,
    batch_size: int = 16,
    classes: int = 10,
    order: torch.Generator | None = None,
) -> Labelled:
    return Labelled(
        torch.arange(count, dtype=torch.float32).reshape(-1, 1, 1, 1),
        torch.arange(count) % classes,
        classes=classes,
        batch_size=batch_size,
        label_noise=label_noise,
        order=order or torch.Generator().manual_seed(1),
        noise=torch.Generator().manual_seed(2),
    )


def test_every_pass_shows_each_example_once_in_a_new_order() -> None:
    stream = source()
    passes = [torch.cat([stream.draw().images.flatten() for _ in range(stream.batches_per_epoch)]) for _ in range(2)]
    assert all(torch.equal(seen.sort().values, torch.arange(50.0)) for seen in passes)
    assert not torch.equal(*passes)


def test_images_keep_their_labels() -> None:
    batch = source().draw()
    assert torch.equal(batch.labels, batch.images.flatten().long() % 10)
    assert torch.equal(batch.targets, batch.labels)


def test_label_noise_touches_targets_alone_and_not_the_order() -> None:
    clean, noisy = source().draw(), source(label_noise=0.9).draw()
    assert torch.equal(clean.images, noisy.images)
    assert torch.equal(clean.labels, noisy.labels)
    assert not torch.equal(noisy.targets, noisy.labels)


def test_label_noise_redraws_uniformly_the_true_class_included() -> None:
    # A redrawn label is the true one in 1 of 4 cases: 0.4 · 3/4 = 30 % differ.
    targets = source(count=20_000, label_noise=0.4, batch_size=20_000, classes=4).draw()
    wrong = targets.targets != targets.labels
    assert wrong.float().mean().item() == pytest.approx(0.3, abs=0.015)
    shares = torch.bincount(targets.targets[wrong], minlength=4) / wrong.sum()
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.025)


def test_label_noise_is_fresh_in_every_pass() -> None:
    stream = source(label_noise=0.5, batch_size=50)
    passes = [stream.draw() for _ in range(2)]
    first, second = (batch.targets[batch.images.flatten().argsort()] for batch in passes)
    assert not torch.equal(first, second)


def test_a_restored_source_goes_on_where_it_was_within_a_pass() -> None:
    order, another_order = torch.Generator().manual_seed(1), torch.Generator()
    stream, other = source(order=order), source(order=another_order)
    stream.draw()
    other.load_state_dict(stream.state_dict())
    another_order.set_state(order.get_state())
    assert all(torch.equal(stream.draw().images, other.draw().images) for _ in range(5))


def augmented(**changes: int) -> Augmented:
    settings = {"classes": 10, "batch_size": 30, "label_noise": 0.0, "shift": 1, "cutout": 2} | changes
    return Augmented(
        torch.rand(40, 2, 6, 6, generator=torch.Generator().manual_seed(0)).clamp_min(0.1),
        torch.arange(40) % 10,
        order=torch.Generator().manual_seed(1),
        noise=torch.Generator().manual_seed(2),
        **settings,
    )


def test_augmentation_changes_images_afresh_and_leaves_order_and_labels() -> None:
    plain, changed, again = (augmented(**changes) for changes in ({"shift": 0, "cutout": 0}, {}, {}))
    for _ in range(4):
        before, after, repeated = plain.draw(), changed.draw(), again.draw()
        assert torch.equal(before.labels, after.labels)
        assert torch.equal(before.targets, after.targets)
        assert not torch.equal(before.images, after.images)
        assert torch.equal(after.images, repeated.images)


def test_augmentation_by_nothing_changes_nothing() -> None:
    stream = augmented(shift=0, cutout=0, batch_size=40)
    original = torch.rand(40, 2, 6, 6, generator=torch.Generator().manual_seed(0)).clamp_min(0.1)
    shown = stream.draw().images
    assert torch.equal(shown.flatten(1).sum(1).sort().values, original.flatten(1).sum(1).sort().values)
