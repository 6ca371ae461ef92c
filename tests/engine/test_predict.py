"""Names and preprocessing travel with the weights; classes of new files; scores of files and runs."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

import spikewise as sw
from spikewise.cli.main import main
from spikewise.cli.predict import shorten
from spikewise.config import Config, Data, Model, Optim
from spikewise.data import messages
from spikewise.data.events import Events, write_events
from spikewise.engine.build import load_data
from spikewise.engine.loop import train
from spikewise.models.weights import save_pretrained, to_published


def read_csv(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def write_photographs(folder, classes=("bright", "dark"), count=6):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for place, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(200 - 160 * place / max(1, len(classes) - 1), 20, (40, 48, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, photographs):
    """A network trained on these photographs with a mean and a std of their own."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    data = Data(name="image-folder", root=str(photographs), size=(32, 40), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    config = Config(data=data, model=Model(name="sew_resnet20", T=2), optim=Optim(batch=4, epochs=3, lr=0.1, lr_batch=4))
    train(config, folder, device="cpu", quiet=True)
    return folder


def test_photographs_are_preprocessed_as_in_evaluation(run, photographs, tmp_path):
    net = sw.load_pretrained(run)
    assert net.class_names == ("bright", "dark")
    config = sw.Config(
        data=Data(name="image-folder", root=str(photographs), size=(32, 40), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    )
    data = load_data(config, "test")
    for index in (0, 7):
        file = data.files[index]
        expected = torch.from_numpy(data.sample(index))[None]
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        for source in (
            file,
            str(file),
            image,
            np.asarray(image),
            np.asarray(image) / 255,
            np.asarray(image).transpose(2, 0, 1) / 255,
        ):
            assert torch.equal(net.preprocess(source), expected)
    save_pretrained(net, tmp_path)
    assert sw.load_pretrained(tmp_path).input_spec == net.input_spec


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 2), np.uint8), np.full((4, 4, 3), 255.0), np.zeros((2, 3, 4, 4)), np.zeros(5), np.zeros((4, 4, 3), int)],
)
def test_arrays_that_could_be_anything_are_refused(run, array):
    with pytest.raises(ValueError, match=r"given an array .*; give uint8 \[H, W, 3\]"):
        sw.load_pretrained(run).preprocess(array)


def test_digits_and_recordings_are_preprocessed_as_in_training(tmp_path):
    for name, model in (("digits", "sew_resnet20"), ("event-folder", "sew_7b")):
        root = None
        if name == "event-folder":
            root, rng = tmp_path / "recordings", np.random.default_rng(0)
            for kind in ("left", "right"):
                (root / kind).mkdir(parents=True)
                for number in range(6):
                    t, side = np.sort(rng.integers(0, 10**5, 500)), rng.integers(0, 16, (2, 500)).astype(np.uint16)
                    recording = Events(t, side[0], side[1], rng.integers(0, 2, 500).astype(np.uint8), (16, 16))
                    write_events(recording, root / kind / f"{number}.npz")
        options = {"num_blocks": 2} if model == "sew_7b" else {"T": 2}
        frames = {"num_frames": 3} if name == "event-folder" else {}
        config = Config(
            data=Data(name=name, root=None if root is None else str(root), **frames),
            model=Model(name=model, **options),
            optim=Optim(batch=8, epochs=1),
        )
        train(config, tmp_path / name, device="cpu", quiet=True)
        net, data = sw.load_pretrained(tmp_path / name), load_data(config, "test")
        if name == "digits":
            pixels = np.rint(data.sample(0)[0] * 255).astype(np.uint8)
            found = net.preprocess(pixels)
            assert torch.equal(found[0, 0], torch.from_numpy(pixels).float() / 255)  # white is 1
            assert (found - torch.from_numpy(data.sample(0))).abs().max() <= 0.5 / 255 + 1e-7  # of 17 levels as 8 bits
        else:
            assert torch.equal(net.preprocess(data.files[0]), torch.from_numpy(data.sample(0))[:, None])
            assert net.input_spec.usual_events == 500
            usual = recording  # noted are one that lasts much longer, and one of few events
            long, few = dataclasses.replace(usual, t=usual.t * 20), usual[:10]
            notes = [one.note for one in sw.Predictor(net)([usual, long, few])]
            assert [words in note for words, note in zip(("", "it lasts", "10 events"), notes, strict=True)] == [True] * 3
            assert notes[0] == ""


def test_a_network_that_says_nothing_of_its_input_refuses_to_preprocess(photographs):
    net = sw.build_model("sew_resnet20", num_classes=2)
    with pytest.raises(ValueError, match="does not say what it was trained on"):
        net.preprocess(photographs)
    with pytest.raises(ValueError, match="does not say what it was trained on"):
        sw.Predictor(net)


@pytest.mark.parametrize("published", [False, True])
def test_a_network_from_elsewhere_predicts_once_it_is_told_its_input(published, photographs, tmp_path, capsys):
    net, photo = sw.build_model("sew_resnet18", num_classes=2, T=1, connect="AND"), photographs / "val" / "dark" / "0.png"
    file = tmp_path / "net.pth"
    torch.save(to_published(net) if published else {"args": {}, "model": net.state_dict()}, file)
    options = ["--connect", "AND"] + ([] if published else ["--model", "sew_resnet18"])
    assert main(["predict", str(file), str(photo), *options]) == 2
    error = capsys.readouterr().err
    assert "net.input_spec = sw.InputSpec(" in error
    assert error.count("\n") == 1
    net = sw.load_pretrained(file, connect="AND", **({} if published else {"name": "sew_resnet18"}))
    net.input_spec = sw.InputSpec(class_names=["cat", "dog"], shape=(3, 32, 48))
    sw.save_pretrained(net, tmp_path / "told")
    assert main(["predict", str(tmp_path / "told"), str(photo), "--json"]) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert {one["class"] for one in line["classes"]} == {"cat", "dog"}
    with Image.open(photo) as opened:  # 48 x 40: enlarged by 9/8, cut in the middle
        pixels = torch.from_numpy(np.asarray(opened.resize((54, 45), Image.Resampling.BILINEAR)) / 255)[6:38, 3:51]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(net.preprocess(photo)[0], ((pixels - mean) / std).permute(2, 0, 1).float())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"class_names": ("a", "b")}, "2 class_names, but this network has 3 outputs"),
        ({"class_names": ("a", "b", "a")}, "class_names=.* different names"),
        ({"class_names": "abc"}, "class_names='abc'"),
        ({"shape": (3, 0, 8)}, r"shape=\(3, 0, 8\)"),
        ({"shape": (1, 8, 8)}, "photographs with 3 channels"),
        ({"kind": "images", "shape": (1, 8, 8)}, "this network takes 3 channels"),
        ({"mean": (124.0, 116.0, 104.0)}, "white is 1, not 255"),
        ({"std": (0.0, 0.5, 0.5)}, "white is 1, not 255"),
        ({"kind": "events", "shape": (2, 8, 8)}, "num_frames=0"),
        ({"kind": "sounds"}, "'photographs', 'images' or 'events'"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(values, message):
    net = sw.build_model("sew_resnet20", num_classes=3)
    with pytest.raises(ValueError, match=message):
        net.input_spec = sw.InputSpec(**values)
    assert net.input_spec is None


def test_pixels_from_0_to_1_are_noticed_where_a_network_had_normalized_ones(run):
    """Whenever they come, and once."""
    net, normalized = sw.load_pretrained(run), torch.randn(1, 3, 32, 40)
    net(normalized)
    with pytest.warns(UserWarning, match="trained on normalized ones"):
        net(torch.rand(1, 3, 32, 40))
    net(torch.rand(1, 3, 32, 40))  # a second warning would be an error


def test_new_files_are_predicted_and_damaged_ones_told(run, photographs, tmp_path, capsys):
    folder = tmp_path / "new"
    shutil.copytree(photographs / "val" / "dark", folder / "dark")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("none of ours")
    words = ["predict", str(run), str(folder), str(photographs / "val" / "bright" / "0.png"), "--device", "cpu", "--batch", "4"]
    table, sheet = tmp_path / "found.csv", tmp_path / "found.png"
    with pytest.raises(SystemExit, match="1"):
        main([*words, "--json", "--csv", str(table), "--sheet", str(sheet)])
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [line["source"].rpartition("/")[2] for line in found] == ["broken.png", *(f"{n}.png" for n in range(6)), "0.png"]
    assert "broken.png" in found[0]["error"]
    assert "1 of 8 inputs could not be read" in err
    assert "skipped 1 other file" in err
    rows = read_csv(table)
    net = sw.load_pretrained(run)
    with torch.no_grad():
        answers = [net.class_names[net(net.preprocess(line["source"])).argmax()] for line in found[1:]]
    assert [line["classes"][0]["class"] for line in found[1:]] == answers
    assert [row["class1"] for row in rows] == ["", *answers]
    with Image.open(sheet) as picture:
        assert picture.size == (6 * 172 + 12, 2 * 208 + 12)  # seven images
    with torch.no_grad():
        expected = net(net.preprocess(folder / "dark" / "0.png")).softmax(1)[0]
    predictor = sw.Predictor(net, device="cpu", batch=3)
    (one,) = list(predictor(iter([folder / "dark" / "0.png"])))
    torch.testing.assert_close(torch.tensor([value for _, value in one.classes]), expected.sort(descending=True).values)


def test_names_on_a_sheet_fit_under_their_images():
    font = ImageFont.load_default(13)
    for name in ("a.png", "IMG_20240817_123456_of_a_camera_0001.jpg", "x" * 500):
        found = shorten(name, 160, font)
        assert font.getlength(found) <= 160
        assert (found == name) == (font.getlength(name) <= 160)
        assert (found[:4], found[-4:]) == (name[:4], name[-4:])
    assert shorten("abc", 1, font) == "a…c"


def test_mistakes_of_predict_are_one_line(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for words, message in (
        ([str(run)], "predict needs an INPUT"),
        ([str(run), str(tmp_path / "empty")], "holds no file of photographs"),
        ([str(tmp_path / "no-run"), "x.png"], "no-run does not exist"),
        ([str(run), "x.png", "--batch", "0"], "--batch 0"),
        ([str(run), "x.png", "--top", "0"], "--top 0"),
        ([str(run), "x.png", "--top", "3"], "--top 3: this network has 2 classes"),
        ([str(run), "x.png", "--T", "0"], "--T 0"),
        ([str(run), "x.png", "--csv", str(tmp_path / "no" / "a.csv")], "there is no folder"),
        ([str(run), "x.png", "--sheet", str(tmp_path / "a.txt")], "use .png"),
    ):
        assert main(["predict", *words]) == 2
        assert message in capsys.readouterr().err


def test_one_path_is_one_input_and_what_is_not_there_stops_no_other(run, photographs):
    file = str(photographs / "val" / "dark" / "0.png")
    predictor = sw.Predictor(run, device="cpu")
    (alone,) = predictor(file)
    missing, there = predictor(["nowhere.png", file])
    assert alone == there
    assert "nowhere.png" in missing.error
    with pytest.raises(ValueError, match="given a list; give one path"):
        sw.load_pretrained(run).preprocess([file, file])


def test_a_file_and_its_run_have_the_same_score(run, photographs, tmp_path, capsys):
    file = shutil.copy(run / "checkpoints" / "last" / "model.safetensors", tmp_path / "mine.safetensors")
    found = []
    for words in (
        [str(run)],
        [str(file), "--data.root", str(photographs)],
        [str(file), "--data.root", str(photographs), "--batch", "3"],
    ):
        assert main(["evaluate", *words, "--device", "cpu", "--json", "--csv", str(tmp_path / "answers.csv")]) == 0
        score = json.loads(capsys.readouterr().out)
        found.append((score["correct"], score["total"], score["confusion"], score["classes"]))
        rows = read_csv(tmp_path / "answers.csv")
        assert rows[0]["sample"].endswith("val/bright/0.png")
        assert sum(row["class"] == row["predicted"] for row in rows) == score["correct"]
    assert found[0] == found[1] == found[2]
    assert np.trace(found[0][2]) == found[0][0]
    assert main(["evaluate", str(run), "--device", "cpu", "--by-class"]) == 0
    assert "dark" in capsys.readouterr().out


def test_a_file_and_its_run_have_the_same_activity(run, photographs, tmp_path, capsys):
    file = shutil.copy(run / "checkpoints" / "last" / "model.safetensors", tmp_path / "mine.safetensors")

    def analyze(*words):
        assert main(["analyze", *map(str, words), "--device", "cpu", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    of_run, of_file = analyze(run), analyze(file, "--data.root", photographs)
    assert of_run == of_file
    assert of_file["classes"] == ["bright", "dark"]
    longer = analyze(file, "--data.name", "image-folder", "--data.root", photographs, "--T", 3, "--batch", 5, "--batches", 1)
    assert [len(block["output_by_time"]) for block in longer["blocks"].values()] == [3] * 9
    assert main(["analyze", str(file), "--data.root", str(photographs), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert all(word in out.splitlines()[-1] for word in ("A, O", "|O - S|", "dL/dS", "by theory"))


@pytest.mark.parametrize("of", ["run", "file"])
@pytest.mark.parametrize("command", ["evaluate", "analyze", "predict"])
def test_an_option_that_contradicts_a_file_holds_and_is_told(of, command, run, photographs, tmp_path, caplog):
    place = run if of == "run" else tmp_path / "model.safetensors"
    if of == "file":
        shutil.copy(run / "checkpoints" / "last" / "model.safetensors", place)
    told = {"predict": str(photographs / "val" / "dark" / "0.png")}.get(command, f"--data.root={photographs}")
    messages.notice.cache_clear()
    assert main([command, str(place), told, "--device", "cpu", "--connect", "and", "--T", "3"]) == 0
    assert caplog.messages == [f"{weights_file(place)}: --connect AND as given, not 'ADD' as the file says"]
    caplog.clear()
    assert main([command, str(place), told, "--device", "cpu", "--connect", "ADD", "--model", "sew_resnet20"]) == 0
    assert not caplog.messages


def weights_file(place):
    return place if place.is_file() else place / "checkpoints" / "last" / "model.safetensors"


def test_classes_are_matched_by_name_or_refused(run, photographs, tmp_path, capsys):
    for names, status, message in (
        (("a-dark", "bright"), 2, "the network does not know 'a-dark'; the data has no class 'dark'"),
        (("bright", "dark", "grey"), 2, "the network does not know 'grey'"),
        (("bright",), 2, "the data has no class 'dark'"),
    ):
        folder = tmp_path / "-".join(names)
        for split in ("train", "val"):
            for name in names:
                shutil.copytree(photographs / split / name.removeprefix("a-").replace("grey", "dark"), folder / split / name)
        assert main(["evaluate", str(run), "--data.root", str(folder), "--device", "cpu"]) == status
        assert message in capsys.readouterr().err


def test_labels_in_another_order_are_those_of_the_network(run, photographs):
    from spikewise.engine.evaluate import Answers, evaluate_network

    net, device = sw.load_pretrained(run), torch.device("cpu")
    data = load_data(
        Config(data=Data(name="image-folder", root=str(photographs), size=(32, 40), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))),
        "test",
    )
    turned = dataclasses.replace(data, class_names=("dark", "bright"), labels=1 - data.labels)
    answers = Answers()
    assert evaluate_network(net, turned, device, answers=answers) == evaluate_network(net, data, device)
    assert answers.labels == data.labels.tolist()
