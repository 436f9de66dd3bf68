import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.exceptions import InvalidCheckpoint, InvalidRequest
from evaluator.manifest import Manifest

notes = st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5)


@given(notes=notes, recipe=st.none() | st.text(max_size=50), width=st.integers(4, 64))
def test_a_manifest_survives_the_way_through_json(notes, recipe, width):
    manifest = Manifest("digits-cnn", "digits", {"width": width}, recipe, notes)
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(notes=notes)
def test_the_json_does_not_depend_on_the_order_of_notes(notes):
    backwards = dict(reversed(notes.items()))
    assert Manifest("digits-cnn", "digits", notes=notes).to_json() == (
        Manifest("digits-cnn", "digits", notes=backwards).to_json()
    )


def test_options_are_completed_with_the_defaults():
    manifest = Manifest("digits-cnn", "digits", {"width": 8})
    assert manifest.options == {"width": 8, "activation": "relu"}
    assert manifest == Manifest("digits-cnn", "digits", {"activation": "relu", "width": 8})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"architecture": "vgg", "dataset": "digits"}, "no architecture is called 'vgg'"),
        ({"architecture": "digits-cnn", "dataset": "mnist"}, "no data set is called 'mnist'"),
        ({"architecture": "digits-cnn", "dataset": "digits", "options": {"width": 1}}, "'width' .* was 1"),
        ({"architecture": "digits-cnn", "dataset": "digits", "schema_version": 2}, "version 2"),
    ],
)
def test_what_does_not_exist_is_refused_when_made_and_when_read(arguments, sentence):
    with pytest.raises(InvalidRequest, match=sentence):
        Manifest(**arguments)
    with pytest.raises(InvalidCheckpoint, match=f"cannot be followed: .*{sentence}"):
        Manifest.from_json(json.dumps(arguments))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "malformed at its text"),
        ("[]", "malformed at its text"),
        ('{"architecture": "digits-cnn"}', "malformed at dataset: Field required"),
        ('{"architecture": "digits-cnn", "dataset": "digits", "code": "x"}', "malformed at code"),
        ('{"architecture": "digits-cnn", "dataset": "digits", "notes": {"a": 1}}', "malformed at notes.a"),
        (json.dumps({"architecture": "digits-cnn", "dataset": "digits", "recipe": "x" * 1001}), "malformed at recipe"),
    ],
)
def test_malformed_json_is_refused_with_the_place(text, sentence):
    with pytest.raises(InvalidCheckpoint, match=sentence):
        Manifest.from_json(text)


def test_a_checkpoint_is_opened_without_torch():
    code = "import sys; sys.modules['torch'] = None; import evaluator.checkpoint_file, evaluator.artifacts"
    subprocess.run([sys.executable, "-c", code], check=True)
