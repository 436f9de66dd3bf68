"""The command line: numbers with intervals, resumable, and one clear sentence with exit code 2 for bad input."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluator import cli
from evaluator.child import MeasuringChild
from evaluator.metrics import CURVES
from evaluator.protocol import Examples, LandscapeSettings
from evaluator.results import evaluation_from_json
from evaluator.safetensors_header import read_header
from evaluator.shipped import PROTOCOLS, SMOKE
from evaluator.store import RunState, RunStore

TINY = Path(__file__).resolve().parents[2] / "fixtures" / "tiny.safetensors"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "FOLDER", tmp_path / "evaluations")
    return tmp_path / "evaluations"


def altered(path, change):
    tensors = load_file(TINY)
    change(tensors)
    save_file(tensors, path, metadata=read_header(TINY).metadata)
    return path


def runs(folder):
    if not (folder / "runs.sqlite3").exists():
        return ()
    store = RunStore(f"sqlite:///{folder / 'runs.sqlite3'}")
    try:
        return store.runs()
    finally:
        store.close()


def test_a_checkpoint_is_measured_and_its_numbers_are_printed_with_intervals(capsys, tmp_path):
    assert cli.main([str(TINY), "--protocol", "smoke", "--out", str(tmp_path / "result.json")]) == 0
    printed = capsys.readouterr().out
    result = evaluation_from_json((tmp_path / "result.json").read_text())
    error = result.measurement("clean_error_test")
    assert f"{error.value:.1%} [{error.low:.1%}, {error.high:.1%}]" in printed
    for line in (result.protocol_digest, str(result.checkpoint_sha256), "torch"):
        assert line in printed


def test_json_goes_to_standard_output_alone(capsys):
    assert cli.main([str(TINY), "--protocol", "smoke", "--limit", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["limit"], result["rankable"]) == (2, False)


def test_a_preview_is_said_before_the_table_and_is_no_part_of_the_result(capsys):
    assert cli.main([str(TINY), "--protocol", "smoke", "--limit", "4", "--preview", "--json"]) == 0
    captured = capsys.readouterr()
    assert "preview: RErr test " in captured.err
    assert "from 4 examples under few attacks, 4 of them under all of AutoAttack" in " ".join(captured.err.split())
    assert "preview" not in captured.out
    assert cli.main([str(TINY), "--protocol", "digits-curve", "--preview"]) == 2
    assert "no robust error on test" in " ".join(capsys.readouterr().err.split())


def test_numbers_that_a_protocol_does_not_ask_for_are_not_printed(capsys, monkeypatch):
    nothing, few = Examples(test=0, train=0), Examples(test=4, train=0)
    part = replace(SMOKE, name="part", autoattack_examples=nothing, flatness_examples=nothing, robust_loss_examples=few)
    monkeypatch.setitem(PROTOCOLS, "part", (part,))
    assert cli.main([str(TINY), "--protocol", "part"]) == 0
    printed = capsys.readouterr().out
    cells = {line.split("↓")[0].strip(): line.split("↓")[1].split() for line in numbers(printed)}
    assert list(cells) == ["Err", "Loss", "RLoss", "PGD Err"]
    assert cells["RLoss"][-3:] == ["4", "–", "–"]
    assert "nan" not in printed


def test_curves_are_printed_as_tables_after_the_numbers(capsys, monkeypatch, tmp_path):
    nothing, few = Examples(test=0, train=0), Examples(test=4, train=0)
    part = {"autoattack_examples": nothing, "flatness_examples": nothing, "robust_loss_examples": few}
    shape = replace(SMOKE, name="shape", **part, landscape=LandscapeSettings((-0.5, 0.5), few))
    monkeypatch.setitem(PROTOCOLS, "shape", (shape,))
    assert cli.main([str(TINY), "--protocol", "shape", "--out", str(tmp_path / "result.json")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    result = evaluation_from_json((tmp_path / "result.json").read_text())
    assert [(one.key, len(one.points)) for one in result.curves] == [("flatness_by_radius", 1), ("landscape", 2)]
    for one in result.curves:
        table = printed.split(CURVES[one.key].label)[1].split("4 test examples")[0]
        assert table.split()[:2] == ["ξ", "test"]
        for point in one.points:
            assert f"{point.position:g} {point.value:.3f} [{point.low:.3f}, {point.high:.3f}]" in table


def test_resume_finds_the_finished_run_and_measures_nothing_again(folder, capsys):
    assert cli.main([str(TINY), "--protocol", "smoke", "--limit", "2", "--json"]) == 0
    first = capsys.readouterr().out
    assert cli.main([str(TINY), "--protocol", "smoke", "--limit", "2", "--json", "--resume"]) == 0
    assert capsys.readouterr().out == first
    assert len(runs(folder)) == 1


def test_an_interrupted_call_goes_on_where_it_stopped(folder, capsys, monkeypatch):
    measured = []

    def interrupted(*arguments, **options):
        if len(measured) == 3:
            raise KeyboardInterrupt
        return counted(*arguments, **options)

    def counted(child, protocol, spec, **options):
        measured.append(spec)
        return measure(child, protocol, spec, **options)

    measure = MeasuringChild.measure
    monkeypatch.setattr(MeasuringChild, "measure", interrupted)
    arguments = [str(TINY), "--protocol", "smoke", "--limit", "2"]
    assert cli.main(arguments) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setattr(MeasuringChild, "measure", counted)
    assert cli.main([*arguments, "--resume"]) == 0
    assert sum(len(spec) for spec in measured) == 20  # 2 examples of 2 splits, 5 times over: none was measured twice
    assert [run.state for run in runs(folder)] == [RunState.COMPLETE]


def poison(tensors):
    next(tensor for tensor in tensors.values() if tensor.is_floating_point()).flatten()[0] = torch.nan


def reshape(tensors):
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name] = tensors[name][:1].clone()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (lambda tmp: [str(TINY), "--protocol", "nope"], "no protocol is called 'nope'; there are digits-linf"),
        (lambda tmp: [str(tmp / "absent.safetensors")], "absent.safetensors"),
        (lambda tmp: [str(altered(tmp / "nan.safetensors", poison))], "not finite"),
        (lambda tmp: [str(altered(tmp / "shape.safetensors", reshape))], "has shape"),
        (lambda tmp: [str(TINY), "--protocol", "cifar10-linf"], "is a classifier of digits"),
        (lambda tmp: [str(TINY), "--limit", "0"], "at least one example"),
        (lambda tmp: [str(TINY), "--device", "abacus"], "no device is called 'abacus'"),
        (lambda tmp: [str(TINY), "--device", "cuda:99"], "cuda:99 was asked for, but torch sees"),
        (lambda tmp: [str(truncated(tmp))], "bytes"),
        (lambda tmp: [str(bare(tmp))], "name its architecture"),
        (lambda tmp: [str(bare(tmp)), "--architecture", "nope"], "nope"),
        (lambda tmp: [str(bare(tmp)), "--architecture", "digits-cnn", "--options", "{"], "--options is no JSON"),
    ],
    ids=[
        "protocol",
        "absent",
        "nan",
        "shape",
        "dataset",
        "limit",
        "device",
        "absent device",
        "truncated",
        "bare",
        "architecture",
        "options",
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2_and_stores_nothing(arguments, sentence, tmp_path, folder, capsys):
    assert cli.main(arguments(tmp_path)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_a_missing_data_set_is_named_with_its_folder(tmp_path, folder, capsys, monkeypatch):
    from evaluator.architectures import build, parse_options
    from evaluator.checkpoints import save_checkpoint
    from evaluator.dataset_facts import find_dataset_facts
    from evaluator.manifest import Manifest

    monkeypatch.setenv("DATA_DIR", str(tmp_path / "nothing-here"))
    manifest = Manifest(architecture="wideresnet", dataset="cifar10", options={"depth": 10, "width": 1})
    options = parse_options(manifest.architecture, manifest.options)
    model = build(manifest.architecture, options, find_dataset_facts("cifar10"))
    save_checkpoint(model, manifest, tmp_path / "cifar.safetensors")
    assert cli.main([str(tmp_path / "cifar.safetensors"), "--protocol", "cifar10-linf"]) == 2
    assert "nothing-here" in capsys.readouterr().err
    assert not folder.exists()


def truncated(tmp_path):
    path = tmp_path / "truncated.safetensors"
    path.write_bytes(TINY.read_bytes()[:-100])
    return path


def bare(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_file(load_file(TINY), path)
    return path


def numbers(printed):
    return [line for line in printed.splitlines() if "↓" in line]


def test_a_file_without_manifest_is_measured_when_the_network_is_named(tmp_path, capsys):
    options = json.loads(read_header(TINY).metadata["manifest"])["options"]
    arguments = [str(bare(tmp_path)), "--architecture", "digits-cnn", "--options", json.dumps(options)]
    assert cli.main([*arguments, "--protocol", "smoke", "--limit", "2"]) == 0
    printed = capsys.readouterr().out
    assert cli.main([str(TINY), "--protocol", "smoke", "--limit", "2"]) == 0
    assert numbers(capsys.readouterr().out) == numbers(printed)
    copied = tmp_path / "copy.safetensors"
    shutil.copy(TINY, copied)
    assert cli.main([str(copied), "--architecture", "wideresnet", "--protocol", "smoke"]) == 2
    assert "leave architecture, options and data set out" in capsys.readouterr().err
