"""Weights from a repository of Hugging Face's hub, whose server is played on this machine."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub import constants

import flax_densenet
from flax_densenet import InputError
from flax_densenet.tests.http_server import Answer, Server, serve
from flax_densenet.tests.tiny_checkpoints import IMAGENET, write_torchvision
from flax_densenet.weights import load_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "hf-hub:someone/net"
TIMM_CONFIG = {
    "architecture": "densenet121",
    "pretrained_cfg": {
        "input_size": [3, 64, 64],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    },
}


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    write_torchvision(tmp_path / "tiny.safetensors", IMAGENET)
    return (tmp_path / "tiny.safetensors").read_bytes()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A hub without repositories, and an empty cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url(""))
        template = server.url("/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()


def offer(hub: Server, revision: str = "main", **files: bytes) -> None:
    """Puts the files of someone/net there, as the hub answers for them."""
    files = {name.replace("__", "."): content for name, content in files.items()}
    repository = {
        "id": "someone/net",
        "sha": COMMIT,
        "siblings": [{"rfilename": name} for name in files],
    }
    path = "/api/models/someone/net" + ("" if revision == "main" else f"/revision/{revision}")
    json_type = ("Content-Type", "application/json")
    hub.answers[path] = Answer(json.dumps(repository).encode(), headers=(json_type,))
    for name, content in files.items():
        digits = hashlib.sha256(content).hexdigest()
        headers = (
            ("X-Repo-Commit", COMMIT),
            ("ETag", f'"{digits}"'),
            ("X-Linked-Etag", f'"{digits}"'),
            ("X-Linked-Size", str(len(content))),
        )
        hub.answers[f"/someone/net/resolve/{revision}/{name}"] = Answer(content, headers=headers)


def test_repository_is_downloaded_with_its_preparation_and_found_offline(
    hub: Server, weights: bytes
) -> None:
    config = json.dumps(TIMM_CONFIG).encode()
    offer(hub, README__md=b"#", model__safetensors=weights, config__json=config)
    for offline in (False, True):
        hub.asked.clear()
        checkpoint = load_checkpoint(NAME, offline=offline)
        right = flax_densenet.initialize(IMAGENET, jax.random.key(0))
        jax.tree.map(np.testing.assert_array_equal, checkpoint.variables, right)
        assert (checkpoint.preparation.size, checkpoint.preparation.interpolation) == (
            64,
            "bicubic",
        )
        assert checkpoint.preparation.mean == (127.5, 127.5, 127.5)
    assert hub.asked == []


def test_cached_file_is_used_and_told_where_the_hub_is_not_reached(
    hub: Server, weights: bytes
) -> None:
    offer(hub, model__safetensors=weights)
    path = load_checkpoint(NAME).path
    hub.answers["/api/models/someone/net"] = Answer(status=503)
    again = load_checkpoint(NAME)
    assert again.path == path
    assert again.warnings[0].startswith(f"{NAME} was not downloaded (")
    assert again.warnings[0].endswith("; the cached file is used")


def test_revision_and_file_are_chosen(hub: Server, weights: bytes) -> None:
    offer(hub, "v2", a__pth=weights, b__pth=b"other")
    checkpoint = load_checkpoint(f"{NAME}/a.pth@v2")
    assert checkpoint.path.name == "a.pth"
    with pytest.raises(
        InputError, match=r"must name the file of weights, .* several: a.pth, b.pth"
    ):
        load_checkpoint(f"{NAME}@v2")


def test_single_file_of_weights_is_taken_whatever_its_name(hub: Server, weights: bytes) -> None:
    offer(hub, README__md=b"#", best__pth=weights)
    assert load_checkpoint(NAME).path.name == "best.pth"
    offer(hub, README__md=b"#")
    with pytest.raises(InputError, match=r"the repository has none of \.safetensors, \.bin"):
        load_checkpoint(NAME)


def test_damage_in_the_hubs_cache_heals(hub: Server, weights: bytes) -> None:
    offer(hub, model__safetensors=weights)
    blob = load_checkpoint(NAME).path.resolve()
    assert blob.name == hashlib.sha256(weights).hexdigest()
    blob.write_bytes(weights[::-1])
    with pytest.raises(InputError, match=r"is damaged: its sha256 is not the [0-9a-f]{64}"):
        load_checkpoint(NAME, offline=True)
    assert load_checkpoint(NAME).path.read_bytes() == weights
    answer = hub.answers["/someone/net/resolve/main/model.safetensors"]
    hub.answers["/someone/net/resolve/main/model.safetensors"] = answer._replace(body=weights[::-1])
    blob.write_bytes(weights[::-1])
    with pytest.raises(InputError, match=r"has another sha256 than .* after a second download"):
        load_checkpoint(NAME)


def test_what_is_not_there_is_one_message(hub: Server) -> None:
    hub.answers["/api/models/someone/net"] = Answer(
        status=404, headers=(("X-Error-Code", "RepoNotFound"),)
    )
    with pytest.raises(
        InputError, match=rf"^{NAME} was not downloaded \(RepositoryNotFoundErr"
    ) as caught:
        load_checkpoint(NAME)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=rf"^{NAME} is not in the cache .*hf download someone/net"):
        load_checkpoint(NAME, offline=True)
    with pytest.raises(InputError, match=r"^hf-hub:net is not understood; wanted hf-hub:OWNER/REP"):
        load_checkpoint("hf-hub:net")


def test_a_process_of_its_own_needs_no_more(tmp_path: Path) -> None:
    """Names of huggingface_hub are there once they are imported, perhaps by another test."""
    words = "from flax_densenet.weights.published.hub import find_in_hub as find; find('a/b', {})"
    for settings in ("offline=True", "offline=False"):
        child = subprocess.run(
            [sys.executable, "-c", words.format(settings)],
            env={**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:1"},
            capture_output=True,
            text=True,
        )
        assert "flax_densenet.errors.InputError: hf-hub:a/b" in child.stderr


def test_huggingface_hub_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"needs huggingface_hub, .* install flax-densenet\[hub\]"):
        load_checkpoint(NAME)
