"""`spikewise export`: files for other programs, and what cannot be one."""

import pytest

from spikewise.cli.main import main
from spikewise.data.input_spec import InputSpec
from spikewise.export.integer_runner import read_program
from spikewise.models import build_model
from spikewise.models.weights import save_pretrained


@pytest.fixture
def weights(tmp_path):
    net = build_model("sew_7b", num_classes=3, num_blocks=1, width=0.25)
    net.input_spec = InputSpec("mine", "events", ("a", "b", "c"), (2, 8, 8), num_frames=3)
    return str(save_pretrained(net, tmp_path / "weights"))


def test_an_integer_network_of_the_size_that_the_weights_say(weights, tmp_path, capsys):
    assert main(["export", weights, str(tmp_path / "net.spk")]) == 0
    assert read_program(tmp_path / "net.spk").shape == (2, 8, 8)
    assert "8 x 8 pixels, whole numbers; of the input 1 is 1, at most 255" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--step", "--size", "16,8"]], ids=["sequence", "step"])
def test_an_onnx_file(weights, options, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    assert main(["export", weights, str(tmp_path / "net.onnx"), *options]) == 0
    graph = onnx.load(tmp_path / "net.onnx").graph
    sides = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim[-2:]]
    assert (graph.input[0].name, sides) == (("frame", [16, 8]) if options else ("frames", [8, 8]))
    assert "pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.pt"], "use NAME.onnx, or NAME.spk"),
        (["net.spk", "--step"], "--step is for ONNX"),
        (["net.spk", "--size", "0"], "needs at least"),
        (["net.spk", "--T", "3"], "--T is for ONNX"),
        (["net.onnx", "--step", "--T", "3"], "--T is for a sequence"),
    ],
)
def test_what_cannot_be_written_is_one_line(arguments, message, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", weights, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("net.*"))


def test_nobody_is_warned_of_the_samples_that_a_network_is_traced_with(tmp_path):
    """Warnings are errors here."""
    net = build_model("sew_resnet20", num_classes=2, width=0.25, T=1)
    net.input_spec = InputSpec(class_names=("a", "b"), shape=(3, 8, 8))
    file = save_pretrained(net, tmp_path)
    for name in ("net.spk", "step.onnx"):
        assert main(["export", str(file), str(tmp_path / name), *(["--step"] if name == "step.onnx" else [])]) == 0


def test_weights_that_do_not_say_their_input_ask_for_it(tmp_path, capsys):
    file = save_pretrained(build_model("sew_7b", num_classes=3, num_blocks=1), tmp_path)
    assert main(["export", str(file), str(tmp_path / "net.spk")]) == 2
    assert "give the pixels of the input: --size" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "runs"), [("a.onnx", "onnxruntime"), ("a.spk", "integer_runner")])
@pytest.mark.parametrize("command", ["predict", "evaluate", "analyze", "diagnose", "energy"])
def test_an_exported_file_is_told_where_it_runs(command, name, runs, tmp_path, capsys):
    (tmp_path / name).write_bytes(b"0")
    assert main([command, str(tmp_path / name), *(["x.png"] if command == "predict" else [])]) == 2
    error = capsys.readouterr().err
    assert runs in error
    assert "exported from" in error
