"""Runs with a preview, on SQLite and PostgreSQL alike: it comes first, gives way, and nothing depends on it."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from evaluator.combine import combine
from evaluator.exceptions import InvalidCheckpoint, InvalidResult, LostLease, ShardTimeout
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.preview import plan_preview, preview_of
from evaluator.results import ShardResult
from evaluator.shipped import DIGITS_CURVE, DIGITS_DEMO, SMOKE
from evaluator.store import MAX_FAILURES, Claim, RunState, RunStore
from tests.evaluator.reports import report

SHA = "ab" * 32


@pytest.fixture
def run_id(store: RunStore) -> UUID:
    run_id = uuid4()
    assert store.create_run(run_id, SMOKE, SHA, preview=True)
    return run_id


def honest(claim: Claim) -> ShardResult:
    return report(claim.protocol, claim.spec)


def finish_until(store: RunStore, stage: StageName) -> Claim:
    """Finish shards until one of a stage is claimed."""
    while (held := store.claim("worker")) is not None and held.spec.stage is not stage:
        store.finish(held, honest(held))
    assert held is not None
    return held


def finish_all(store: RunStore) -> list[StageName]:
    stages = []
    while held := store.claim("worker"):
        store.finish(held, honest(held))
        stages.append(held.spec.stage)
    return stages


def test_a_preview_is_claimed_right_after_the_clean_images_and_stands_until_the_run_is_complete(store, run_id):
    held = finish_until(store, StageName.PREVIEW)
    assert [stage.stage for stage in store.progress(run_id) if stage.shards_done] == [StageName.CLEAN] * 2
    assert store.preview(run_id) is None
    store.finish(held, honest(held))
    expected = preview_of(report(SMOKE, *plan_preview(SMOKE)))
    assert store.preview(run_id) == expected
    assert StageName.CLEAN not in finish_all(store)
    assert store.preview(run_id) == expected
    assert store.complete(run_id) is not None
    assert store.preview(run_id) is None


def test_the_result_is_that_of_a_run_without_one(store, run_id):
    finish_all(store)
    found = store.complete(run_id)
    assert found == combine(SMOKE, [report(SMOKE, spec) for spec in plan(SMOKE)], checkpoint_sha256=SHA)
    assert store.reproduced(run_id) == found
    assert {stage.stage for stage in store.progress(run_id) if stage.summary is None} == {StageName.PREVIEW}


def test_a_run_has_a_preview_only_where_one_was_asked_for_and_can_be(store):
    for protocol, preview in ((SMOKE, False), (DIGITS_CURVE, True)):
        run_id = uuid4()
        store.create_run(run_id, protocol, SHA, preview=preview)
        assert StageName.PREVIEW not in {stage.stage for stage in store.progress(run_id)}
        assert StageName.PREVIEW not in finish_all(store)
        assert store.preview(run_id) is None
        assert store.complete(run_id) is not None
    assert store.preview(uuid4()) is None


def test_a_preview_that_fails_three_times_is_given_up_and_its_run_completes(store, run_id):
    for _ in range(MAX_FAILURES):
        store.fail(finish_until(store, StageName.PREVIEW), RuntimeError("it burst"))
    assert StageName.PREVIEW not in finish_all(store)
    assert store.complete(run_id) is not None
    (stage,) = (one for one in store.progress(run_id) if one.stage is StageName.PREVIEW)
    assert (stage.shards_failed, stage.shards_done, stage.attempts) == (1, 0, MAX_FAILURES)
    assert "no preview; the run goes on" in " ".join(event.text for event in store.events(run_id))
    assert (store.run(run_id).state, store.run(run_id).error) == (RunState.COMPLETE, None)


@pytest.mark.parametrize("error", [InvalidCheckpoint("its logits overflow"), ShardTimeout("it takes hours")])
def test_a_preview_that_no_retry_helps_or_that_takes_too_long_is_given_up_at_once(store, run_id, error):
    store.fail(finish_until(store, StageName.PREVIEW), error)
    assert StageName.PREVIEW not in finish_all(store)
    assert store.complete(run_id) is not None


def test_a_preview_of_a_silent_worker_goes_to_another_and_a_late_report_is_refused(store, run_id):
    finish_until(store, StageName.PREVIEW)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE shards SET lease_expires = 0 WHERE stage = 'preview'"))
    late = store.claim("other")
    assert (late.spec.stage, late.attempt, late.failures) == (StageName.PREVIEW, 2, 1)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE shards SET lease_expires = 0 WHERE stage = 'preview'"))
    held = store.claim("worker")
    with pytest.raises(LostLease):
        store.finish(late, honest(late))
    store.finish(held, honest(held))
    assert store.preview(run_id) is not None


def test_a_run_does_not_wait_for_a_preview_that_is_still_being_measured(store, run_id):
    held = finish_until(store, StageName.PREVIEW)
    finish_all(store)
    assert store.complete(run_id) is not None
    with pytest.raises(LostLease):
        store.finish(held, honest(held))
    assert store.sweep().completed == ()


def test_a_forged_preview_is_refused_and_three_of_them_cost_the_preview_alone(store, run_id):
    for _ in range(MAX_FAILURES):
        held = finish_until(store, StageName.PREVIEW)
        wrong = report(SMOKE, held.spec)
        wrong.values["broken_by"][0] = wrong.values["autoattack"][0] = "robust"
        with pytest.raises(InvalidResult, match="misclassified without an attack") as refusal:
            store.finish(held, wrong)
        store.fail(held, refusal.value)
    finish_all(store)
    assert store.preview(run_id) is None
    assert store.complete(run_id) is not None


def test_a_preview_is_never_measured_again(store):
    run_id = uuid4()
    store.create_run(run_id, DIGITS_DEMO, SHA, audit_share=1.0, preview=True)
    finish_all(store)
    assert store.complete(run_id) is None  # something was drawn
    assert StageName.PREVIEW not in finish_all(store)
    assert store.complete(run_id) is not None


def test_another_wish_for_a_preview_leaves_a_run_as_it_is(store, run_id):
    assert not store.create_run(run_id, SMOKE, SHA)
    assert StageName.PREVIEW in {stage.stage for stage in store.progress(run_id)}
