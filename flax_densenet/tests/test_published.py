"""Weights by name: from a server on this machine, and from the caches of other software."""

import dataclasses
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import platformdirs
import pytest

import flax_densenet
from flax_densenet import VARIANTS, InputError, count_parameters
from flax_densenet.cli import train
from flax_densenet.cli.main import main
from flax_densenet.download import Checksum, RemoteFile
from flax_densenet.tests.http_server import Answer, Server, serve
from flax_densenet.tests.tiny_checkpoints import COLOR, IMAGENET, write_images, write_torchvision
from flax_densenet.weights import load_checkpoint
from flax_densenet.weights.files import write_safetensors
from flax_densenet.weights.layouts import LAYOUTS
from flax_densenet.weights.published import find
from flax_densenet.weights.published.catalog import PUBLISHED, USUAL
from flax_densenet.weights.published.classes import CLASS_SETS, class_names, wordnet_ids
from flax_densenet.weights.published.find import find_weights
from flax_densenet.weights.table import correspondence, to_arrays, to_torch_arrays

CACHE = platformdirs.user_cache_path()
TINY = dataclasses.replace(IMAGENET, num_classes=1000)
TORCHVISION, TIMM, KERAS = (
    "torchvision/densenet121",
    "timm/densenet121.ra_in1k",
    "keras/densenet121",
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, and a home of its own without any variable of other software."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "TORCH_HOME", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    with serve() as server:
        yield server


@pytest.fixture
def tiny(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Content of a tiny file, which is torchvision's DenseNet-121 here, at the server."""
    file = tmp_path / "tiny.safetensors"
    write_torchvision(file, TINY)
    content = file.read_bytes()
    server.answers["/models/tiny-file.pth"] = Answer(content)
    publish(monkeypatch, TORCHVISION, server.url("/models/tiny-file.pth"), content)
    return content


def publish(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, content: bytes, *others: RemoteFile
) -> RemoteFile:
    """Puts a file in the place of published weights."""
    checksum = Checksum("sha256", hashlib.sha256(content).hexdigest())
    file = RemoteFile(url, url.rpartition("/")[2], len(content), checksum)
    row = PUBLISHED[name]._replace(files=(file, *others))
    monkeypatch.setitem(PUBLISHED, name, row)
    return file


def own(tmp_path: Path, *parts: str) -> Path:
    return tmp_path.joinpath("home", ".cache", "flax-densenet", "weights", *parts)


def assert_initial(variables: Any) -> None:
    right = flax_densenet.initialize(TINY, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, variables, right)


def test_name_is_downloaded_once_and_then_read_from_the_disk(
    server: Server, tiny: bytes, tmp_path: Path
) -> None:
    for _ in range(2):
        model, variables = flax_densenet.load(TORCHVISION)
        assert model.config.block_sizes == TINY.block_sizes
        assert_initial(variables)
    assert server.asked == ["/models/tiny-file.pth"]
    assert own(tmp_path, "torchvision", "tiny-file.pth").read_bytes() == tiny


def test_table_says_what_pixels_and_classes_are(server: Server, tiny: bytes) -> None:
    checkpoint = load_checkpoint(TORCHVISION)
    preparation = checkpoint.preparation
    assert (preparation.size, preparation.shorter_side) == (224, 256)
    # torchvision's transforms, in 0 to 1
    np.testing.assert_allclose(np.array(preparation.mean) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(np.array(preparation.std) / 255, [0.229, 0.224, 0.225], rtol=1e-6)
    assert checkpoint.class_names is not None
    assert checkpoint.class_names[281] == "tabby"
    assert checkpoint.published == TORCHVISION


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_file_in_the_cache_heals(
    damage: str, server: Server, tiny: bytes, tmp_path: Path
) -> None:
    place = own(tmp_path, "torchvision", "tiny-file.pth")
    place.parent.mkdir(parents=True)
    place.write_bytes(tiny[:-1] + (b"" if damage == "cut" else bytes([tiny[-1] ^ 1])))
    with pytest.raises(InputError, match=r"tiny-file.pth has .* so that it is not used"):
        find_weights(TORCHVISION, offline=True)
    found = find_weights(TORCHVISION)
    assert (found.path, place.read_bytes()) == (place, tiny)
    (note,) = found.notes
    assert "tiny-file.pth has " in note


def test_faults_of_the_server_are_one_message_and_leave_nothing(
    server: Server, tiny: bytes, tmp_path: Path
) -> None:
    path = "/models/tiny-file.pth"
    page = (("Content-Type", "text/html"),)
    for answer, reason in (
        (Answer(status=404), "404 Client Error"),
        (Answer(tiny, sent=100), "the connection to 127.0.0.1:[0-9]+ broke amid tiny-file.pth"),
        (Answer(b"<html>", headers=page), "answered with a web page, as for an error or a login"),
        (Answer(tiny[::-1]), "has another sha256 than"),
        (Answer(tiny[:-1]), "offers [0-9,]+ bytes instead of"),
    ):
        server.answers[path] = answer
        with pytest.raises(InputError) as caught:
            flax_densenet.load(TORCHVISION)
        message = str(caught.value)
        assert re.search(reason, message), message
        place = own(tmp_path, "torchvision", "tiny-file.pth")
        digits = hashlib.sha256(tiny).hexdigest()
        for part in (server.url(path), place, f"{len(tiny):,} bytes", digits, "https_proxy"):
            assert str(part) in message
        assert "\n" not in message
        assert list(place.parent.iterdir()) == []


def test_next_address_is_tried(
    server: Server, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = PUBLISHED[TORCHVISION].files[0]
    other = file._replace(url=server.url("/copy/tiny-file.pth"))
    server.answers["/copy/tiny-file.pth"] = server.answers.pop("/models/tiny-file.pth")
    monkeypatch.setitem(
        PUBLISHED, TORCHVISION, PUBLISHED[TORCHVISION]._replace(files=(file, other))
    )
    assert_initial(flax_densenet.load(TORCHVISION)[1])
    assert server.asked == ["/models/tiny-file.pth", "/copy/tiny-file.pth"]


def test_several_at_once_all_get_the_whole_file(server: Server, tiny: bytes) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(find_weights(TORCHVISION).path.read_bytes()))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tiny] * 6


@pytest.mark.parametrize("how", ["argument", "FLAX_DENSENET_OFFLINE", "HF_HUB_OFFLINE"])
def test_nothing_is_downloaded_offline(
    how: str, server: Server, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how != "argument":
        monkeypatch.setenv(how, "1")
    reason = "--offline, or offline=True" if how == "argument" else f"{how} is set"
    for source in (TORCHVISION, server.url("/models/tiny-file.pth")):
        with pytest.raises(InputError, match=rf"nothing is downloaded offline \({reason}\)"):
            find_weights(source, offline=how == "argument")
    assert server.asked == []


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        (None, "", "home/.cache/torch/hub/checkpoints"),
        ("XDG_CACHE_HOME", "elsewhere", "elsewhere/torch/hub/checkpoints"),
        ("TORCH_HOME", "mine", "mine/hub/checkpoints"),
        (None, "", "home/.torch/models"),
    ],
)
def test_file_in_torchs_cache_is_found_offline(
    variable: str | None,
    value: str,
    place: str,
    tiny: bytes,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / value))
    put(tmp_path / place / "tiny-file.pth", tiny)
    _, variables = flax_densenet.load(TORCHVISION, offline=True)
    assert_initial(variables)
    put(tmp_path / place / "tiny-file.pth", tiny[:-1])
    with pytest.raises(InputError, match=f"{place}/tiny-file.pth has .* so that it is not used"):
        flax_densenet.load(TORCHVISION, offline=True)
    assert (tmp_path / place / "tiny-file.pth").read_bytes() == tiny[:-1]  # it is not ours


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        (None, "", "home/.cache/huggingface/hub"),
        ("HF_HOME", "hf", "hf/hub"),
        ("HF_HUB_CACHE", "hub", "hub"),
    ],
)
def test_file_in_the_hubs_cache_is_found_offline_and_checked(
    variable: str | None,
    value: str,
    place: str,
    tiny: bytes,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / value))
    repository = tmp_path / place / "models--timm--densenet121.ra_in1k"
    blob = repository / "blobs" / hashlib.sha256(tiny).hexdigest()
    put(blob, tiny)
    link = repository / "snapshots" / "0123abcd" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    checkpoint = load_checkpoint(TIMM, offline=True)
    assert_initial(checkpoint.variables)
    assert checkpoint.preparation.interpolation == "bicubic"
    assert checkpoint.warnings == []
    put(blob, tiny[::-1])  # the hub's cache names it by what it should be
    with pytest.raises(InputError, match=r"model.safetensors has another sha256 than"):
        load_checkpoint(TIMM, offline=True)


@pytest.mark.parametrize("variable", [None, "KERAS_HOME"])
def test_file_in_kerass_cache_is_found_offline(
    variable: str | None, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".keras"
    if variable:
        home = tmp_path / "mine"
        monkeypatch.setenv(variable, str(home))
    network = dataclasses.replace(TINY, batch_norm_epsilon=1.001e-5)
    variables = flax_densenet.initialize(network, jax.random.key(0))
    file = home / "models" / "tiny.h5"
    file.parent.mkdir(parents=True)
    with h5py.File(file, "w") as target:
        for path, array in to_arrays(variables, network, LAYOUTS["keras"]).items():
            target.create_dataset(f"{path}:0", data=array)
    publish(monkeypatch, KERAS, server.url("/tiny.h5"), file.read_bytes())
    model, found = flax_densenet.load(KERAS, offline=True)
    assert model.config.batch_norm_epsilon == 1.001e-5
    assert_initial(found)


def test_usual_weights_of_a_named_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "densenet121.safetensors"
    network = VARIANTS["densenet121"]
    rng = np.random.default_rng(0)
    right = {
        row.key: rng.uniform(0.5, 1, row.shape).astype(np.float32)
        for row in correspondence(network)
    }
    write_safetensors(file, right, {}, overwrite=True)
    content = file.read_bytes()
    server.answers["/densenet121.pth"] = Answer(content)
    publish(monkeypatch, TORCHVISION, server.url("/densenet121.pth"), content)
    model, variables = flax_densenet.create("densenet121", pretrained=True)
    assert count_parameters(model.config) == 7_978_856  # torchvision's documentation
    for key, array in to_torch_arrays(variables, network).items():
        if key in right:
            np.testing.assert_array_equal(array, right[key])
    model, variables = flax_densenet.create(
        "densenet121", in_channels=1, pretrained=True, offline=True
    )
    assert model.config.in_channels == 1
    assert server.asked == ["/densenet121.pth"]


def test_create_refuses_what_it_cannot_mean() -> None:
    with pytest.raises(InputError, match=r"pretrained=True and weights \(='x'\) exclude"):
        flax_densenet.create("densenet121", pretrained=True, weights="x")
    with pytest.raises(InputError, match="no published weights are the usual ones of densenet264"):
        flax_densenet.create("densenet264", pretrained=True)


def test_unknown_name_is_told_with_the_nearest(server: Server) -> None:
    with pytest.raises(InputError, match="called torchvision/densnet121; perhaps you meant torchv"):
        flax_densenet.load("torchvision/densnet121")


def test_path_comes_before_a_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("torchvision").mkdir()
    write_torchvision(Path(TORCHVISION), COLOR)
    assert flax_densenet.load(TORCHVISION)[0].config == COLOR
    assert server.asked == []


def test_file_of_ones_own_is_known_by_name_and_checksum(
    server: Server, tiny: bytes, tmp_path: Path
) -> None:
    put(tmp_path / "mine" / "tiny-file.pth", tiny)
    assert load_checkpoint(tmp_path / "mine" / "tiny-file.pth").published == TORCHVISION
    put(tmp_path / "mine" / "tiny-file.pth", tiny + b" ")
    assert find_weights(tmp_path / "mine" / "tiny-file.pth").name is None


def test_address_is_downloaded_and_cannot_be_checked(
    server: Server, tiny: bytes, tmp_path: Path
) -> None:
    server.answers["/other/weights.pth"] = Answer(tiny)
    url = server.url("/other/weights.pth?download=true")
    digits = hashlib.sha256(tiny).hexdigest()
    with pytest.warns(
        UserWarning, match=rf"weights.pth could be checked against nothing.*{digits}"
    ):
        _, variables = flax_densenet.load(url)
    assert_initial(variables)
    assert find_weights(url, offline=True).path.parent.parent == own(tmp_path, "addresses")
    assert server.asked == ["/other/weights.pth"]
    assert find_weights(server.url("/models/tiny-file.pth")).name == TORCHVISION


def test_path_of_an_address_is_refused() -> None:
    with pytest.raises(InputError, match=r"^https://a.org/b.pth is an address, .* give it as text"):
        load_checkpoint(Path("https://a.org/b.pth"))


def test_partly_known_checksum_is_told(
    server: Server, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PUBLISHED[TORCHVISION]
    for checksum, size, known in (
        (Checksum("sha256", hashlib.sha256(tiny).hexdigest()[:8]), len(tiny), "the first 8 digits"),
        (None, len(tiny), "the size alone"),
        (None, None, "nothing"),
    ):
        file = row.files[0]._replace(checksum=checksum, size=size)
        monkeypatch.setitem(PUBLISHED, TORCHVISION, row._replace(files=(file,)))
        (note,) = find_weights(TORCHVISION).notes
        assert f"could be checked against {known}" in note
        assert hashlib.sha256(tiny).hexdigest() in note


def test_mirror_of_the_hub_is_asked(
    server: Server, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url('/mirror')}/")
    path = "/timm/densenet121.tv_in1k/resolve/main/model.safetensors"
    server.answers[f"/mirror{path}"] = Answer(tiny)
    publish(monkeypatch, "timm/densenet121.tv_in1k", f"https://huggingface.co{path}", tiny)
    assert_initial(flax_densenet.load("timm/densenet121.tv_in1k")[1])


def test_command_lists_and_fetches(
    server: Server, tiny: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{listed}" for name in PUBLISHED)
    assert "; at " not in listed
    assert main(["weights", TORCHVISION]) == 0
    place = own(tmp_path, "torchvision", "tiny-file.pth")
    shown = capsys.readouterr().out
    assert f"{TORCHVISION} is at {place}\n" in shown
    for word in ("BSD-3-Clause", "74.434 / 91.972", hashlib.sha256(tiny).hexdigest(), "224x224"):
        assert word in shown
    assert main(["weights"]) == 0
    assert f"; at {place}\n" in capsys.readouterr().out
    put(place, b"x")
    assert main(["weights", "--offline", TORCHVISION]) == 2
    assert f"{place} has 1 bytes instead of" in capsys.readouterr().err
    assert main(["weights", "torchvision/densenet264"]) == 2
    assert "NAME (='torchvision/densenet264') must be one of" in capsys.readouterr().err


def test_commands_take_names(
    server: Server,
    tiny: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_images(tmp_path / "images", 1, size=300)
    image = str(tmp_path / "images" / "0.png")
    # The compiled kernels are in the real one.
    monkeypatch.setattr(find, "own_caches", lambda: [own(tmp_path)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))
    target = tmp_path / "converted.safetensors"
    for words in (
        ["predict", TORCHVISION, image, "--image_size", "64"],
        ["explain", TORCHVISION, image, "--image_size", "64", "--class", "n01443537",
         "--output", str(tmp_path / "picture.png")],
        ["convert", TORCHVISION, str(target), "--no_verify"],
        ["summary", TORCHVISION],
    ):  # fmt: skip
        assert main(words) == 0
    printed = capsys.readouterr().out
    assert "goldfish" in printed  # class 1 of ImageNet, n01443537
    assert f"source     {TORCHVISION}, BSD-3-Clause: 74.434 / 91.972 % top-1" in printed
    again = load_checkpoint(target)
    assert again.class_names == class_names("imagenet")
    assert again.metadata["source"].startswith(TORCHVISION)
    assert main(["predict", "torchvision/densenet201", "--offline", image]) == 2
    assert "nothing is downloaded offline" in capsys.readouterr().err


def test_training_starts_from_a_name(server: Server, tiny: bytes, tmp_path: Path) -> None:
    words = ["--dataset", "digits", "--init_from", TORCHVISION, "--new_head", "--image_size", "32"]
    with pytest.raises(InputError, match="nothing is downloaded offline"):
        train.parse([*words, "--offline"], "train.py")
    start = train.parse(words, "train.py").config.fine_tuning
    assert start.init_from == str(own(tmp_path, "torchvision", "tiny-file.pth"))
    assert start.init_from_sha256 == hashlib.sha256(tiny).hexdigest()


def test_class_names_of_imagenet() -> None:
    names, identifiers = class_names("imagenet"), wordnet_ids()
    assert (len(set(names)), len(set(identifiers))) == (1000, 1000)
    assert list(identifiers) == sorted(identifiers)  # the order of their numbers everywhere
    assert all(re.fullmatch("n[0-9]{8}", identifier) for identifier in identifiers)
    # The two pairs that other lists call the same.
    assert [names.index(n) for n in ("crane bird", "crane")] == [134, 517]
    assert [identifiers[i] for i in (134, 517)] == ["n02012849", "n03126707"]
    assert [names.index(n) for n in ("maillot", "maillot tank suit")] == [638, 639]
    assert (names[264], names[474]) == ("Cardigan", "cardigan")


def test_table_is_consistent() -> None:
    for class_set, count in CLASS_SETS.items():
        assert len(set(class_names(class_set))) == count
    assert set(USUAL) <= set(VARIANTS)
    assert set(USUAL.values()) <= set(PUBLISHED)
    for name, row in PUBLISHED.items():
        for file in row.files:
            assert file.url.startswith("https://")
            in_name = re.search("-([0-9a-f]{8})[.]pth$", file.name)
            if in_name and file.checksum:  # torch.hub's and pytorchcv's naming
                assert file.checksum.digits.startswith(in_name[1])
        assert row.class_set in CLASS_SETS
        (channels,) = {len(row.preparation.mean or ()), len(row.preparation.std or ())}
        assert channels == (1 if name.startswith("xrv/") else 3)
    # 4 bytes for each float32 value, and the names; the parameters are torchvision's.
    for depth, parameters in ((121, 7978856), (169, 14149480), (201, 20013928), (161, 28681000)):
        (file,) = PUBLISHED[f"torchvision/densenet{depth}"].files
        assert file.size is not None
        assert 4 * parameters < file.size < 4.1 * parameters
