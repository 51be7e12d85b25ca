"""Image generation: attention windows, the variational bound, image files, baselines, and the job."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lstmkit
from lstmkit.data.batch import Batch
from lstmkit.data.vision.image_set import Images, Size, binarize, fit_to_size, read_images
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.jobs.image_generator.baselines import bernoulli_mixture, independent_bernoulli
from lstmkit.jobs.image_generator.job import ImageGenerator
from lstmkit.jobs.image_generator.metrics import NLL, elbo_terms
from lstmkit.models.draw import DrawModel
from lstmkit.modules.draw_attention import DrawReader, DrawWriter, FullImageReader, FullImageWriter
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress

TINY = {"height": 6, "width": 5, "glimpses": 3, "latent_size": 2, "hidden_size": 8, "epochs": 2, "batch_size": 10}


def strokes(n: int = 60) -> tuple[np.ndarray, list[str]]:
    """Upright and lying strokes."""
    rng = np.random.default_rng(0)
    pictures = np.zeros((n, 6, 5), dtype=np.float32)
    for i, picture in enumerate(pictures):
        picture[(slice(None), rng.integers(5)) if i % 2 else (rng.integers(6), slice(None))] = 1
    return pictures, ["up" if i % 2 else "along" for i in range(n)]


def model(cell: str = "lstm", attention: bool = True, kinds: int = 0, dtype: torch.dtype = torch.float64) -> DrawModel:
    torch.manual_seed(0)
    reader = DrawReader(7, 6, 5, 2) if attention else FullImageReader()
    writer = DrawWriter(7, 6, 5, 3) if attention else FullImageWriter(7, 6, 5)
    seen = 8 if attention else 60
    encoder = build_trunk(cell, seen + 7 + kinds, 4, num_layers=1)
    decoder = build_trunk(cell, 2 + kinds, 7, num_layers=1)
    return DrawModel(reader, encoder, decoder, writer, (6, 5), 2, 3, kinds).to(dtype)


# ---- windows ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), size=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_filters_are_the_papers(seed: int, size: int):
    """Equations 19, 20, 25 and 26, written out in numpy."""
    torch.manual_seed(seed)
    reader = DrawReader(4, 9, 7, size).double()
    with torch.no_grad():
        window = reader.window(torch.randn(2, 4, dtype=torch.float64))
    down, across = reader.filters(window)
    for middle, found, dots in ((window.down, down, 9), (window.across, across, 7)):
        for b in range(2):
            for i in range(1, size + 1):
                mean = float(middle[b]) + (i - size / 2 - 0.5) * float(window.stride[b])
                weights = np.exp(-((np.arange(1, dots + 1) - mean) ** 2) / (2 * float(window.variance[b])))
                if weights.sum() > 1e-6:
                    np.testing.assert_allclose(found[b, i - 1].detach().numpy(), weights / weights.sum(), atol=1e-12)


def test_a_sharp_window_reads_the_dots_themselves():
    reader = DrawReader(1, 5, 5, 5).double()
    with torch.no_grad():
        reader.linear.weight.zero_()
        reader.linear.bias.copy_(torch.tensor([0.0, 0.0, -8.0, 0.0, 0.0]))  # the middle, all of it, sharp
    pictures = torch.rand(3, 1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(reader(pictures, torch.zeros(3, 1, dtype=torch.float64)), pictures.flatten(1))


def test_a_window_far_outside_sees_nothing_and_is_no_nan():
    reader = DrawReader(1, 5, 5, 2)
    with torch.no_grad():
        reader.linear.bias.copy_(torch.tensor([1e4, -1e4, -5.0, 0.0, 0.0]))
    seen = reader(torch.ones(1, 1, 5, 5), torch.zeros(1, 1))
    assert torch.isfinite(seen).all()
    assert float(seen.abs().detach().max()) == 0


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gradients_of_the_bound_are_right(cell: str, attention: bool):
    drawn = model(cell, attention)
    picture = torch.rand(1, 6, 5, dtype=torch.float64).round()
    noise = torch.randn(1, 3, 2, dtype=torch.float64)

    def bound(start: torch.Tensor, blank: torch.Tensor) -> torch.Tensor:
        begun = drawn.initial_state(1)._replace(hidden=start, logits=blank)
        return torch.stack(drawn.elbo_terms(picture, begun, noise)).sum()

    inputs = (torch.randn(1, 7, dtype=torch.float64), torch.randn(1, 6, 5, dtype=torch.float64))
    assert torch.autograd.gradcheck(bound, tuple(x.requires_grad_() for x in inputs))


# ---- the bound -------------------------------------------------------------------------------------------------------


def test_the_bound_is_written_out_plainly():
    """Against torch.distributions and torch.nn.LSTMCell, a step after the other, without attention."""
    drawn = model(attention=False).eval()
    cells = []
    for layer in (drawn.encoder, drawn.decoder):
        cell = torch.nn.LSTMCell(layer.input_size, layer.hidden_size).double()
        cell.load_state_dict({name.removesuffix("_l0"): w for name, w in layer.state_dict().items()})
        cells.append(cell)
    pictures, noise = torch.rand(4, 6, 5).double().round(), torch.randn(4, 3, 2).double()
    canvas, hidden = drawn.blank.expand(4, 6, 5), drawn.start.expand(4, 7)
    encoder = decoder = None
    cost = torch.zeros(4).double()
    for t in range(3):
        seen = torch.cat([pictures.flatten(1), (pictures - canvas.sigmoid()).flatten(1), hidden], 1)
        encoder = cells[0](seen, encoder)
        mean, log = drawn.guess(encoder[0]).chunk(2, 1)
        q = torch.distributions.Normal(mean, log.exp())
        cost = cost + torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
        decoder = cells[1](mean + log.exp() * noise[:, t], decoder)
        hidden = decoder[0]
        canvas = canvas + drawn.writer.linear(hidden).view(4, 6, 5)
    said = -torch.distributions.Bernoulli(logits=canvas).log_prob(pictures).sum((1, 2))
    found = drawn.elbo_terms(pictures, drawn.initial_state(4), noise)
    torch.testing.assert_close(found, (said, cost))


def test_the_bound_is_above_what_pictures_are_worth():
    """Of pictures of four dots every one can be summed over: exp(-bound) adds up to less than 1."""
    tiny = {
        "height": 2,
        "width": 2,
        "glimpses": 2,
        "latent_size": 2,
        "hidden_size": 12,
        "read_size": 2,
        "write_size": 2,
    }
    generator = ImageGenerator(
        **tiny, epochs=30, lr=0.02, batch_size=10, ema_decay=0.0, valid_fraction=0, test_fraction=0
    )
    some = np.array([[[1, 1], [1, 1]], [[0, 0], [0, 0]]] * 50, dtype=np.float32)
    generator.fit(some)
    every = np.array([[[i & 1, i >> 1 & 1], [i >> 2 & 1, i >> 3 & 1]] for i in range(16)], dtype=np.float32)
    many = Images(np.repeat(every, 400, 0), (None,) * 6400, tuple(map(str, range(6400))), "all")
    bounds = elbo_terms(generator.predictor, many).sum(1).reshape(16, 400).mean(1)
    assert np.exp(-bounds).sum() < 1.0
    assert np.exp(-bounds[[0, 15]]).sum() > 0.5  # and it has learnt which of them there are


def test_forward_loss_and_step_are_the_same_model():
    drawn = model(kinds=2).eval()
    kinds = torch.tensor([0, 1])
    pictures = torch.rand(2, 6, 5).double().round()
    told, _ = drawn.read(pictures, drawn.initial_state(2, kinds))
    state = drawn.initial_state(2, kinds)
    for t in range(3):
        logits, state = drawn.step(told.means[:, t], state)
        torch.testing.assert_close(logits.unflatten(1, (6, 5)), told.canvases[:, t])
    canvases, windows = drawn.generate(told.means, drawn.initial_state(2, kinds))
    torch.testing.assert_close(canvases, told.canvases)
    torch.testing.assert_close(windows, told.windows)
    loss, _ = drawn.loss(Batch(pictures.round(), extras={"kind": kinds}))
    assert torch.equal(loss, drawn.loss(Batch(pictures.round(), extras={"kind": kinds}))[0])


@pytest.fixture(scope="module")
def learnt() -> ImageGenerator:
    """Trained well on strokes."""
    return ImageGenerator(**{**TINY, "epochs": 60, "hidden_size": 24, "latent_size": 4, "lr": 0.01}).fit(strokes(300))


def test_it_learns_more_than_independent_pixels(learnt: ImageGenerator):
    table = learnt.evaluate(strokes(50)).table.set_index("model")[NLL]
    assert table.iloc[0] < 0.6 * table["independent pixels"]


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_a_folder_and_a_zip_of_any_pictures(tmp_path: Path):
    """Alpha, 16 bits, colours, another size; labels by folder; what is no picture is passed over and counted."""
    folder = tmp_path / "shapes"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "a" / "clear.png")
    Image.fromarray(np.full((6, 5), 65535, dtype=np.uint16)).save(folder / "a" / "deep.png")
    Image.new("RGB", (10, 4), (255, 0, 0)).save(folder / "b" / "red.png")
    (folder / "b" / "notes.txt").write_text("no picture")
    found = read_images(folder, Size(6, 5))
    assert found.labels == ("a", "a", "b")
    assert found.pixels.shape == (3, 6, 5)
    assert (found.pixels[1] == 1).all()
    assert found.pixels[2, 0].max() == 0  # a wide picture lies in the middle
    assert "1 files of shapes are not images" in found.notes[0]
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder).as_posix())
    zipped = read_images(tmp_path / "shapes.zip", Size(6, 5))
    np.testing.assert_array_equal(zipped.pixels, found.pixels)
    assert zipped.labels == found.labels


def test_idx_files_with_and_without_labels(tmp_path: Path):
    shades = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    images, labels = tmp_path / "images-idx3-ubyte.gz", tmp_path / "labels-idx1-ubyte"
    images.write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + shades.tobytes()))
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 1]))
    found = read_images(f"{images},{labels}", Size(3, 4))
    assert found.labels == ("7", "1")
    np.testing.assert_allclose(found.pixels, shades / 255, rtol=1e-6)
    assert read_images(str(images), Size(3, 4)).labels == (None, None)
    images.write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(DataError, match="not a readable IDX file"):
        read_images(images, Size(3, 4))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.full((2, 3, 4), np.nan), "a pixel is NaN or out of range"),
        (np.full((2, 3, 4), 2.0), "a pixel is NaN or out of range"),
        (np.zeros((2, 3, 4, 3)), "give grayscale images"),
        ((np.zeros((2, 3, 4)), ["a"]), "2 images and 1 labels"),
        ([[1], [1, 2]], "give a path, or images"),
        ("nowhere.zip", "no such file"),
        ("nowhere.png", "no such file"),
    ],
)
def test_what_is_no_set_of_pictures_is_refused(data: object, says: str):
    with pytest.raises(UserError, match=says):
        read_images(data, Size(3, 4))


def test_a_folder_without_pictures_and_a_file_that_is_none(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="has no image"):
        read_images(tmp_path, Size(3, 4))
    (tmp_path / "b.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"b\.png is not a readable image"):
        read_images(tmp_path, Size(3, 4))


def test_dark_ink_and_sides_in_proportion():
    picture = np.ones((4, 8))
    picture[:, 0] = 0
    found = fit_to_size(picture, Size(4, 4, invert=True))
    assert found[0].sum() == 0
    np.testing.assert_allclose(found[1:3, 0], 0.5)
    assert found[1:3, 1:].sum() == 0


def test_black_and_white_has_the_shades_in_the_mean():
    shades = np.full((4000, 1, 1), 0.3, dtype=np.float32)
    drawn = binarize(shades, 1)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert abs(drawn.mean() - 0.3) < 0.03
    assert (drawn == binarize(shades, 1)).all()


# ---- baselines -------------------------------------------------------------------------------------------------------


def test_a_mixture_knows_what_independent_pixels_do_not():
    """Two images, each half of the time: a mixture finds them, independent pixels cost log 2 each."""
    pictures = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]] * 40, dtype=np.float32)
    alone = independent_bernoulli(pictures, pictures).mean()
    mixed = bernoulli_mixture(pictures, pictures, 4, 0, Progress()).mean()
    assert alone == pytest.approx(6 * np.log(2), rel=1e-5)
    assert np.log(2) <= mixed < 0.25 * alone


# ---- generation ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> ImageGenerator:
    return ImageGenerator(**TINY, class_conditional=True).fit(strokes())


def test_new_images_of_a_label_and_of_all_in_turn(generator: ImageGenerator):
    assert [one.label for one in generator.predict(4)] == ["along", "up", "along", "up"]
    assert {one.label for one in generator.predict("3", label="up")} == {"up"}
    same, other = generator.predict(2, seed=1), generator.predict(2, seed=2)
    assert np.array_equal(same[0].canvases, generator.predict(2, seed=1)[0].canvases)
    assert not np.array_equal(same[0].canvases, other[0].canvases)
    assert same[0].canvases.shape == (3, 6, 5)
    assert same[0].windows.shape == (3, 5)
    assert ((same[0].image >= 0) & (same[0].image <= 1)).all()


def test_what_cannot_be_generated_is_refused(generator: ImageGenerator):
    with pytest.raises(SettingError, match=r"unknown label 'round': the model knows along, up"):
        generator.predict(1, label="round")
    with pytest.raises(SettingError, match="must be from 1 to 10,000, not 0"):
        generator.predict(0)
    with pytest.raises(DataError, match="unknown class 'round'"):
        generator.evaluate((strokes(2)[0], ["up", "round"]))
    plain = ImageGenerator(**TINY).fit(strokes())
    with pytest.raises(SettingError, match="trained without --class-conditional"):
        plain.predict(1, label="up")
    with pytest.raises(DataError, match="has no label"):
        ImageGenerator(**TINY, class_conditional=True).fit(strokes()[0])
    with pytest.raises(DataError, match="nothing to learn"):
        ImageGenerator(**TINY).fit(np.zeros((30, 6, 5)))


def test_an_image_grid_an_animation_and_text(generator: ImageGenerator, tmp_path: Path):
    generated = generator.predict(3)
    generator.write(generated, tmp_path / "sheet.png")
    generator.write(generated, tmp_path / "film.gif")
    generator.write(generated, tmp_path / "signs.txt")
    with Image.open(tmp_path / "sheet.png") as sheet, Image.open(tmp_path / "film.gif") as film:
        assert sheet.size == (4 * (3 * 6 + 1), 4 * 8)
        assert getattr(film, "n_frames", 1) > 1
    lines = (tmp_path / "signs.txt").read_text().rstrip("\n").split("\n")
    assert [len(line) for line in lines[:7]] == [*[10] * 6, 0]


def test_a_reconstruction_is_like_its_original(learnt: ImageGenerator):
    again = learnt.predict(strokes(20))
    right = [((one.image > 0.5) == (one.original > 0.5)).mean() for one in again if one.original is not None]
    assert len(right) == 20
    assert np.mean(right) > 0.9


def test_saved_and_loaded_it_generates_the_same(generator: ImageGenerator, tmp_path: Path):
    generator.save(tmp_path / "model")
    loaded = lstmkit.load(tmp_path / "model")
    assert np.array_equal(loaded.predict(3)[2].canvases, generator.predict(3)[2].canvases)
    assert "the mixture is left out" in str(loaded.evaluate(strokes(20)))
