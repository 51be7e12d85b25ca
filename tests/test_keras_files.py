"""Files of Keras, read without Keras: those of Keras 2, which Keras 3 no longer writes, damaged and hostile ones."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from lstmkit import GRU, LSTM, RNN, UserError, export_keras, import_keras
from lstmkit.export import keras_file
from lstmkit.export.keras_layers import KerasBatchNorm, KerasEmbedding, KerasRecurrent, KerasSequential

KERAS_2 = Path(__file__).parent / "data" / "keras_2"
MUTATIONS = 400


@pytest.mark.parametrize("name", ["sequential.h5", "functional.keras"])
def test_files_of_keras_2_give_the_outputs_of_keras_2(name: str):
    outputs = json.loads((KERAS_2 / "outputs.json").read_text())
    with torch.no_grad():
        y = import_keras(KERAS_2 / name)(torch.tensor(outputs["input"])).numpy()
    np.testing.assert_allclose(y, outputs[name], rtol=0, atol=1e-6)
    assert np.ptp(y, axis=0).max() > 1e-2


def old_h5(path: Path, layers: list[dict[str, Any]], version: bytes = b"2.1.6") -> None:
    """A file as Keras 2.1 wrote it: a bare list of layers, texts as bytes, names of weights with ``:0``."""
    generator = np.random.default_rng(0)
    shapes = {"LSTM": ((4, 12), (3, 12), (12,)), "Dense": ((3, 2), (2,)), "GRU": ((4, 9), (3, 9), (9,))}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers}).encode()
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [layer["config"]["name"].encode() for layer in layers]
        for layer in layers:
            name = layer["config"]["name"]
            group = root.create_group(name)
            names = [f"{name}/{weight}:0" for weight in ("kernel", "recurrent_kernel", "bias")]
            names = names if layer["class_name"] != "Dense" else [names[0], names[2]]
            group.attrs["weight_names"] = [each.encode() for each in names]
            for each, shape in zip(names, shapes[layer["class_name"]], strict=True):
                group[each] = generator.normal(size=shape).astype(np.float32)


def old_layer(kind: str, **options: Any) -> dict[str, Any]:
    common = {"name": kind.lower(), "trainable": True, "batch_input_shape": [None, None, 4], "use_bias": True}
    return {"class_name": kind, "config": {**common, **options}}


def test_files_of_keras_2_1_are_read(tmp_path: Path):
    lstm = {"units": 3, "activation": "tanh", "recurrent_activation": "sigmoid", "implementation": 1}
    lstm |= {"kernel_initializer": {"class_name": "VarianceScaling", "config": {}}, "unit_forget_bias": True}
    old_h5(tmp_path / "a.h5", [old_layer("LSTM", **lstm), old_layer("Dense", units=2, activation="linear")])
    module = import_keras(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        kernel = file["model_weights/lstm/lstm/kernel:0"][()]
        bias = file["model_weights/lstm/lstm/bias:0"][()]
    layer = module[0].layer
    np.testing.assert_array_equal(layer.weight_ih_l0.detach(), kernel.T)  # both: input, forget, candidate, output
    np.testing.assert_array_equal(layer.bias_ih_l0.detach(), bias)
    assert not layer.bias_hh_l0.detach().any()
    assert module(torch.zeros(1, 5, 4)).shape == (1, 2)


@pytest.mark.parametrize(
    ("layer", "version", "message"),
    [
        (old_layer("LSTM", units=3, recurrent_activation="hard_sigmoid"), b"2.1.6", "has recurrent_activation='hard"),
        (old_layer("GRU", units=3, recurrent_activation="sigmoid"), b"2.1.6", "(GRU) has reset_after=False"),
        (old_layer("Dense", units=2, activation="hard_sigmoid"), b"2.15.0", "='hard_sigmoid' of Keras 2.15.0"),
        (old_layer("Dense", units=2, new_option="x"), b"2.15.0", "has new_option='x', which lstmkit does not have"),
        (old_layer("LSTM", units=3, recurrent_activation="sigmoid", return_state=True), b"2.1.6", "return_state=True"),
        (old_layer("LSTM", units=3), b"1.2.2", "was saved by Keras 1.2.2: load it in Keras 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_old_options_that_differ_are_refused_by_name(layer: dict[str, Any], version: bytes, message: str, tmp_path):
    old_h5(tmp_path / "a.h5", [layer], version)
    with pytest.raises(UserError, match=re.escape(message)):
        import_keras(tmp_path / "a.h5")


# ---- damaged files ---------------------------------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    return KerasSequential(
        KerasEmbedding(10, 4, mask_zero=True),
        KerasRecurrent(LSTM(4, 3, batch_first=True, bidirectional=True)),
        KerasBatchNorm(6),
        KerasRecurrent(GRU(6, 3, batch_first=True), return_sequences=False),
        nn.Linear(3, 2),
        nn.Softmax(-1),
    )


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_parts(path: Path, parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, bytes]:
    return parts_of(export_keras(network(), tmp_path / "whole.keras"))


def with_config(parts: dict[str, bytes], change: Callable[[Any], object]) -> dict[str, bytes]:
    model = json.loads(parts["config.json"])
    change(model["config"]["layers"])
    return {**parts, "config.json": json.dumps(model).encode()}


def with_weights(parts: dict[str, bytes], change: Callable[[Any], object]) -> dict[str, bytes]:
    content = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        change(file)
    return {**parts, "model.weights.h5": content.getvalue()}


KERNEL = "layers/dense/vars/0"


def replace_kernel(**options: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, **options)

    return change


def link_kernel(link: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[KERNEL]
        file[KERNEL] = link

    return change


def virtual_kernel(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 2), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 2))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


CHANGED_CONFIG: dict[str, tuple[Callable[[Any], object], str]] = {
    "class": (lambda layers: layers[1].update(class_name="Conv2D"), "(Conv2D) cannot be read; known layers"),
    "Lambda": (lambda layers: layers[1].update(class_name="Lambda"), "cannot be read: it holds code of its own"),
    "own class": (
        lambda layers: layers[1].update(registered_name="mine>Embedding"),
        "a layer of the class mine>Embedding: only layers of Keras itself",
    ),
    "own module": (lambda layers: layers[1].update(module="os"), "a layer of the class os.Embedding"),
    "no class": (lambda layers: layers[1].pop("class_name"), "without class_name or config"),
    "no options": (lambda layers: layers[1].update(config=[]), "without class_name or config"),
    "no object": (lambda layers: layers.insert(1, 3), "has no list of layers"),
    "nothing": (lambda layers: layers.clear(), "has no layers"),
    "huge": (lambda layers: layers[1]["config"].update(input_dim=10**9), "has the shape (10, 4), expected (10"),
    "too huge": (lambda layers: layers[1]["config"].update(input_dim=10**30), "expected a whole number of at least 1"),
    "text": (lambda layers: layers[5]["config"].update(units="2"), "has units='2', expected a whole number"),
    "flag": (lambda layers: layers[4]["config"].update(return_sequences=1), "has return_sequences=1, expected true"),
    "activation": (lambda layers: layers[6]["config"].update(activation={"class_name": "X"}), "has activation={"),
    "two of one": (lambda layers: layers.append(layers[5]), "has no 'layers/dense_1/vars' in its weights"),
    "sizes": (lambda layers: layers[4]["config"].update(units=4), "has the shape (6, 9), expected (6, 12)"),
    "wrapped": (lambda layers: layers[2]["config"]["layer"].update(class_name="Dense"), "inside Bidirectional"),
}
CHANGED_WEIGHTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "missing": (lambda file: file.__delitem__(KERNEL), "(Dense) has 1 weights, expected 2"),
    "missing layer": (lambda file: file.__delitem__("layers/gru"), "has no 'layers/gru/cell/vars' in its weights"),
    "more": (lambda file: file.create_dataset("layers/dense/vars/2", data=[1.0]), "has 3 weights, expected 2"),
    "shape": (replace_kernel(data=np.zeros((2, 3), "f4")), "kernel has the shape (2, 3), expected (3, 2)"),
    "no dimension": (replace_kernel(data=np.float32(1)), "kernel has the shape (), expected (3, 2)"),
    "no shape": (replace_kernel(data=h5py.Empty("f4")), "kernel has the shape None, expected (3, 2)"),
    "whole numbers": (replace_kernel(data=np.zeros((3, 2), "i8")), "kernel has values of type int64, expected float"),
    "texts": (replace_kernel(data=[["a", "b"]] * 3, dtype=h5py.string_dtype()), "has values of type object"),
    "group": (lambda file: (file.__delitem__(KERNEL), file.create_group(KERNEL)), "is not an array"),
    "no values": (replace_kernel(shape=(3, 2), dtype="f4", chunks=(1, 1)), "kernel has no values in the file"),
    "method": (replace_kernel(data=np.zeros((3, 2), "f4"), compression="lzf"), "by another method than gzip"),
    "soft link": (link_kernel(h5py.SoftLink("/layers/dense/vars/1")), "is a link to another place"),
    "external link": (link_kernel(h5py.ExternalLink("/etc/passwd", "/x")), "is a link to another place"),
    "linked group": (
        lambda file: (file.move("layers", "elsewhere"), file.__setitem__("layers", h5py.SoftLink("/elsewhere"))),
        "is a link to another place",
    ),
    "external values": (
        replace_kernel(shape=(3, 2), dtype="f4", external=[("/etc/passwd", 0, 24)]),
        "has its values in another file",
    ),
    "virtual": (virtual_kernel, "has its values in another file"),
}


@pytest.mark.parametrize("case", CHANGED_CONFIG)
def test_a_changed_description_is_one_line(case: str, parts: dict[str, bytes], tmp_path: Path):
    change, message = CHANGED_CONFIG[case]
    path = write_parts(tmp_path / "a.keras", with_config(parts, change))
    with pytest.raises(UserError, match=re.escape(message)):
        import_keras(path)


@pytest.mark.parametrize("case", CHANGED_WEIGHTS)
def test_changed_weights_are_one_line(case: str, parts: dict[str, bytes], tmp_path: Path):
    change, message = CHANGED_WEIGHTS[case]
    path = write_parts(tmp_path / "a.keras", with_weights(parts, change))
    with pytest.raises(UserError, match=re.escape(message)):
        import_keras(path)


def test_gzipped_weights_are_read(parts: dict[str, bytes], tmp_path: Path):
    change = replace_kernel(data=np.ones((3, 2), "f2"), compression="gzip", shuffle=True)
    module = import_keras(write_parts(tmp_path / "a.keras", with_weights(parts, change)))
    np.testing.assert_array_equal(module[4].weight.detach(), np.ones((2, 3)))


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_a_missing_file_of_the_archive_is_named(name: str, parts: dict[str, bytes], tmp_path: Path):
    del parts[name]
    with pytest.raises(UserError, match=f"a.keras has no file {name}"):
        import_keras(write_parts(tmp_path / "a.keras", parts))


def test_deep_json_and_other_files_are_one_line(parts: dict[str, bytes], tmp_path: Path):
    deep = b'{"a":' * 100_000
    contents = {
        "deep.keras": {**parts, "config.json": deep},
        "text.keras": {**parts, "config.json": b"\xff"},
        "null.keras": {**parts, "config.json": b"null"},
        "list.keras": {**parts, "metadata.json": b"[]"},
        "weights.keras": {**parts, "model.weights.h5": b"PK"},
    }
    for name, changed in contents.items():
        with pytest.raises(UserError, match=name):
            import_keras(write_parts(tmp_path / name, changed))
    (tmp_path / "a.h5").write_bytes(b"no model")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_group("layers")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name, message in {
        "a.h5": "is not a Keras model",
        "weights.h5": "holds weights only",
        "other.h5": "holds no model",
        "missing.keras": "no such file",
        ".": "is a folder",
    }.items():
        with pytest.raises(UserError, match=message):
            import_keras(tmp_path / name)


def test_a_bomb_is_refused_before_it_is_unpacked(parts: dict[str, bytes], tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LSTMKIT_MAX_DECODED_MB", "1")
    bomb = {**parts, "config.json": b" " * 2_000_000}
    with pytest.raises(UserError, match="takes more than 1 MB when decoded"):
        import_keras(write_parts(tmp_path / "a.keras", bomb, zipfile.ZIP_DEFLATED))
    values = np.zeros((3, 2_000_000), "f4")
    change = replace_kernel(data=values, compression="gzip")
    wide = with_config(with_weights(parts, change), lambda layers: layers[5]["config"].update(units=2_000_000))
    with pytest.raises(UserError, match="kernel takes more than 1 MB when decoded"):
        import_keras(write_parts(tmp_path / "b.keras", wide, zipfile.ZIP_DEFLATED))
    chunk = replace_kernel(data=np.zeros((3, 2), "f4"), maxshape=(None, None), chunks=(1024, 1024), compression="gzip")
    with pytest.raises(UserError, match="kernel takes more than 1 MB when decoded"):
        import_keras(write_parts(tmp_path / "c.keras", with_weights(parts, chunk), zipfile.ZIP_DEFLATED))


def test_a_file_that_hdf5_never_ends_to_read_is_refused(monkeypatch: pytest.MonkeyPatch):
    """A flipped byte in the heap of texts sends the library into an endless loop."""
    monkeypatch.setattr(keras_file, "_SECONDS", 3)
    with pytest.raises(UserError, match=r"endless\.h5 is damaged \(HDF5 cannot read it in 3 s\)"):
        import_keras(KERAS_2 / "endless.h5")


def test_damaged_files_raise_one_line(parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Flipped, cut and overwritten bytes in each part: a model or one line, never another error."""
    monkeypatch.setattr(keras_file, "check_ends", lambda content, name: None)  # a process for each would take minutes
    generator = random.Random(0)
    samples = [("h5", (KERAS_2 / "sequential.h5").read_bytes()), *((name, parts[name]) for name in parts)]
    refused = 0
    for k in range(MUTATIONS):
        name, content = samples[k % len(samples)]
        damaged = bytearray(content)
        for _ in range(generator.choice((1, 3, 20))):
            damaged[generator.randrange(len(damaged))] = generator.choice((0, 1, 127, 255, generator.randrange(256)))
        if k % 7 == 0:
            del damaged[generator.randrange(len(damaged)) :]
        path = tmp_path / "damaged"
        path.write_bytes(damaged) if name == "h5" else write_parts(path, {**parts, name: bytes(damaged)})
        with contextlib.suppress(UserError):
            import_keras(path)
            continue
        refused += 1
    assert refused > MUTATIONS / 10


# ---- what cannot be written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (LSTM(3, 4, peephole=True), "(LSTM) has peephole: Keras has only plain layers; export_onnx has all"),
        (LSTM(3, 4, proj_size=2, coupled=True), "(LSTM) has proj_size and coupled"),
        (GRU(3, 4, zoneout=0.1), "(GRU) has zoneout"),
        (RNN(3, 4, 2, residual=True), "(RNN) has residual"),
        (nn.LSTM(3, 4), "(LSTM) is torch's layer: load its state_dict into lstmkit.LSTM"),
        (nn.Sequential(LSTM(3, 4), nn.Linear(5, 1)), "1 (Linear) reads 5 values, but the part before gives 4"),
        (nn.Sequential(LSTM(3, 4), nn.BatchNorm1d(4)), "it normalizes dimension 1, use KerasBatchNorm"),
        (nn.Sequential(LSTM(3, 4), nn.Softmax(1)), "1 (Softmax) cannot be written for Keras"),
        (nn.Sequential(LSTM(3, 4), nn.Conv1d(4, 4, 1)), "1 (Conv1d) cannot be written for Keras; known: LSTM"),
        (nn.Sequential(LSTM(3, 4), nn.Embedding(3, 4)), "1 (Embedding) is not the first part"),
        (nn.Sequential(nn.Tanh()), "Sequential has no layer with weights"),
        (
            KerasSequential(KerasRecurrent(LSTM(3, 4, batch_first=True), False), LSTM(4, 4)),
            "1 (LSTM) reads steps, but the part before gives the last one",
        ),
        (KerasRecurrent(LSTM(3, 4, batch_first=True), stateful=True), "(KerasRecurrent) is stateful"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_keras_does_not_have_is_refused(module: nn.Module, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=re.escape(message)):
        export_keras(module, tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_the_name_and_the_weights_are_checked(tmp_path: Path):
    with pytest.raises(UserError, match=r"model\.h5 does not end in \.keras"):
        export_keras(LSTM(3, 4), tmp_path / "model.h5")
    layer = LSTM(3, 4)
    with torch.no_grad():
        layer.weight_ih_l0[0, 0] = torch.nan
    with pytest.raises(UserError, match="weight_ih has values that are NaN"):
        export_keras(layer, tmp_path / "model.keras")


def test_the_same_network_gives_the_same_file(tmp_path: Path):
    first = export_keras(network(), tmp_path / "a.keras").read_bytes()
    assert export_keras(network(), tmp_path / "b.keras").read_bytes() == first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KerasRecurrent(LSTM(3, 4)), "batch_first=True"),
        (lambda: KerasRecurrent(LSTM(3, 4, 2, batch_first=True)), "num_layers=1"),
        (
            lambda: KerasRecurrent(LSTM(3, 4, batch_first=True, bidirectional=True), go_backwards=True),
            "go_backwards needs a layer of one direction",
        ),
    ],
)
def test_layers_of_another_form_are_refused(make: Callable[[], nn.Module], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_input_dropout_acts_in_training_only():
    torch.manual_seed(0)
    layer = KerasRecurrent(LSTM(3, 4, batch_first=True), dropout=0.5)
    x = torch.ones(2, 5, 3)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])
