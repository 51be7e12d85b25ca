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
    """Images of one vertical or horizontal stroke, and their labels."""
    rng = np.random.default_rng(0)
    images = np.zeros((n, 6, 5), dtype=np.float32)
    for i, image in enumerate(images):
        image[(slice(None), rng.integers(5)) if i % 2 else (rng.integers(6), slice(None))] = 1
    return images, ["up" if i % 2 else "along" for i in range(n)]


def model(
    cell: str = "lstm", attention: bool = True, num_classes: int = 0, dtype: torch.dtype = torch.float64
) -> DrawModel:
    torch.manual_seed(0)
    reader = DrawReader(7, 6, 5, 2) if attention else FullImageReader()
    writer = DrawWriter(7, 6, 5, 3) if attention else FullImageWriter(7, 6, 5)
    glimpse_size = 8 if attention else 60
    encoder = build_trunk(cell, glimpse_size + 7 + num_classes, 4, num_layers=1)
    decoder = build_trunk(cell, 2 + num_classes, 7, num_layers=1)
    return DrawModel(reader, encoder, decoder, writer, (6, 5), 2, 3, num_classes).to(dtype)


# ---- windows ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), size=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_attention_filters_equal_the_papers_equations(seed: int, size: int):
    """The Gaussian filters equal equations 19, 20, 25 and 26, computed in NumPy."""
    torch.manual_seed(seed)
    reader = DrawReader(4, 9, 7, size).double()
    with torch.no_grad():
        window = reader.window(torch.randn(2, 4, dtype=torch.float64))
    down, across = reader.filters(window)
    for center, filters, num_pixels in ((window.down, down, 9), (window.across, across, 7)):
        for b in range(2):
            for i in range(1, size + 1):
                mean = float(center[b]) + (i - size / 2 - 0.5) * float(window.stride[b])
                weights = np.exp(-((np.arange(1, num_pixels + 1) - mean) ** 2) / (2 * float(window.variance[b])))
                if weights.sum() > 1e-6:
                    np.testing.assert_allclose(filters[b, i - 1].detach().numpy(), weights / weights.sum(), atol=1e-12)


def test_a_sharp_window_reads_the_pixels_unchanged():
    reader = DrawReader(1, 5, 5, 5).double()
    with torch.no_grad():
        reader.linear.weight.zero_()
        reader.linear.bias.copy_(torch.tensor([0.0, 0.0, -8.0, 0.0, 0.0]))  # the middle, all of it, sharp
    images = torch.rand(3, 1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(reader(images, torch.zeros(3, 1, dtype=torch.float64)), images.flatten(1))


def test_a_window_outside_the_image_reads_zeros_and_no_nan():
    reader = DrawReader(1, 5, 5, 2)
    with torch.no_grad():
        reader.linear.bias.copy_(torch.tensor([1e4, -1e4, -5.0, 0.0, 0.0]))
    glimpse = reader(torch.ones(1, 1, 5, 5), torch.zeros(1, 1))
    assert torch.isfinite(glimpse).all()
    assert float(glimpse.abs().detach().max()) == 0


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gradients_of_the_elbo_pass_gradcheck(cell: str, attention: bool):
    draw_model = model(cell, attention)
    image = torch.rand(1, 6, 5, dtype=torch.float64).round()
    noise = torch.randn(1, 3, 2, dtype=torch.float64)

    def negative_elbo(hidden: torch.Tensor, canvas: torch.Tensor) -> torch.Tensor:
        state = draw_model.initial_state(1)._replace(hidden=hidden, logits=canvas)
        return torch.stack(draw_model.elbo_terms(image, state, noise)).sum()

    inputs = (torch.randn(1, 7, dtype=torch.float64), torch.randn(1, 6, 5, dtype=torch.float64))
    assert torch.autograd.gradcheck(negative_elbo, tuple(x.requires_grad_() for x in inputs))


# ---- the evidence lower bound ----------------------------------------------------------------------------------------


def test_the_elbo_equals_a_plain_computation():
    """The ELBO terms equal a step-by-step computation with torch.distributions and LSTMCell, without attention."""
    draw_model = model(attention=False).eval()
    cells = []
    for layer in (draw_model.encoder, draw_model.decoder):
        cell = torch.nn.LSTMCell(layer.input_size, layer.hidden_size).double()
        cell.load_state_dict({name.removesuffix("_l0"): w for name, w in layer.state_dict().items()})
        cells.append(cell)
    images, noise = torch.rand(4, 6, 5).double().round(), torch.randn(4, 3, 2).double()
    canvas, hidden = draw_model.blank.expand(4, 6, 5), draw_model.start.expand(4, 7)
    encoder = decoder = None
    kl = torch.zeros(4).double()
    for t in range(3):
        inputs = torch.cat([images.flatten(1), (images - canvas.sigmoid()).flatten(1), hidden], 1)
        encoder = cells[0](inputs, encoder)
        mean, log_std = draw_model.guess(encoder[0]).chunk(2, 1)
        q = torch.distributions.Normal(mean, log_std.exp())
        kl = kl + torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
        decoder = cells[1](mean + log_std.exp() * noise[:, t], decoder)
        hidden = decoder[0]
        canvas = canvas + draw_model.writer.linear(hidden).view(4, 6, 5)
    reconstruction = -torch.distributions.Bernoulli(logits=canvas).log_prob(images).sum((1, 2))
    actual = draw_model.elbo_terms(images, draw_model.initial_state(4), noise)
    torch.testing.assert_close(actual, (reconstruction, kl))


def test_the_negative_elbo_bounds_the_log_likelihood():
    """Summed over all images of four pixels, exp(-bound) is less than 1."""
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
    training_images = np.array([[[1, 1], [1, 1]], [[0, 0], [0, 0]]] * 50, dtype=np.float32)
    generator.fit(training_images)
    all_images = np.array([[[i & 1, i >> 1 & 1], [i >> 2 & 1, i >> 3 & 1]] for i in range(16)], dtype=np.float32)
    repeated = Images(np.repeat(all_images, 400, 0), (None,) * 6400, tuple(map(str, range(6400))), "all")
    bounds = elbo_terms(generator.predictor, repeated).sum(1).reshape(16, 400).mean(1)
    assert np.exp(-bounds).sum() < 1.0
    assert np.exp(-bounds[[0, 15]]).sum() > 0.5  # the model has learned the two training images


def test_read_step_generate_and_loss_agree():
    draw_model = model(num_classes=2).eval()
    labels = torch.tensor([0, 1])
    images = torch.rand(2, 6, 5).double().round()
    reconstruction, _ = draw_model.read(images, draw_model.initial_state(2, labels))
    state = draw_model.initial_state(2, labels)
    for t in range(3):
        logits, state = draw_model.step(reconstruction.means[:, t], state)
        torch.testing.assert_close(logits.unflatten(1, (6, 5)), reconstruction.canvases[:, t])
    canvases, windows = draw_model.generate(reconstruction.means, draw_model.initial_state(2, labels))
    torch.testing.assert_close(canvases, reconstruction.canvases)
    torch.testing.assert_close(windows, reconstruction.windows)
    loss, _ = draw_model.loss(Batch(images.round(), extras={"kind": labels}))
    assert torch.equal(loss, draw_model.loss(Batch(images.round(), extras={"kind": labels}))[0])


@pytest.fixture(scope="module")
def trained() -> ImageGenerator:
    """An image generator trained until it reconstructs strokes."""
    return ImageGenerator(**{**TINY, "epochs": 60, "hidden_size": 24, "latent_size": 4, "lr": 0.01}).fit(strokes(300))


def test_the_model_beats_independent_pixels(trained: ImageGenerator):
    table = trained.evaluate(strokes(50)).table.set_index("model")[NLL]
    assert table.iloc[0] < 0.6 * table["independent pixels"]


# ---- image files -----------------------------------------------------------------------------------------------------


def test_folders_and_zip_files_of_images_are_read(tmp_path: Path):
    """Images with alpha, 16 bits, colors or other sizes are read; folders give labels; other files are counted."""
    folder = tmp_path / "shapes"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "a" / "clear.png")
    Image.fromarray(np.full((6, 5), 65535, dtype=np.uint16)).save(folder / "a" / "deep.png")
    Image.new("RGB", (10, 4), (255, 0, 0)).save(folder / "b" / "red.png")
    (folder / "b" / "notes.txt").write_text("no picture")
    images = read_images(folder, Size(6, 5))
    assert images.labels == ("a", "a", "b")
    assert images.pixels.shape == (3, 6, 5)
    assert (images.pixels[1] == 1).all()
    assert images.pixels[2, 0].max() == 0  # a wide image is centered
    assert "1 files of shapes are not images" in images.notes[0]
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder).as_posix())
    zipped = read_images(tmp_path / "shapes.zip", Size(6, 5))
    np.testing.assert_array_equal(zipped.pixels, images.pixels)
    assert zipped.labels == images.labels


def test_idx_files_with_and_without_labels(tmp_path: Path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    images, labels = tmp_path / "images-idx3-ubyte.gz", tmp_path / "labels-idx1-ubyte"
    images.write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + pixels.tobytes()))
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 1]))
    dataset = read_images(f"{images},{labels}", Size(3, 4))
    assert dataset.labels == ("7", "1")
    np.testing.assert_allclose(dataset.pixels, pixels / 255, rtol=1e-6)
    assert read_images(str(images), Size(3, 4)).labels == (None, None)
    images.write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(DataError, match="not a readable IDX file"):
        read_images(images, Size(3, 4))


@pytest.mark.parametrize(
    ("data", "message"),
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
def test_invalid_image_data_are_refused(data: object, message: str):
    with pytest.raises(UserError, match=message):
        read_images(data, Size(3, 4))


def test_folders_without_images_and_unreadable_images_are_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="has no image"):
        read_images(tmp_path, Size(3, 4))
    (tmp_path / "b.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"b\.png is not a readable image"):
        read_images(tmp_path, Size(3, 4))


def test_inverted_images_are_resized_in_proportion():
    image = np.ones((4, 8))
    image[:, 0] = 0
    resized = fit_to_size(image, Size(4, 4, invert=True))
    assert resized[0].sum() == 0
    np.testing.assert_allclose(resized[1:3, 0], 0.5)
    assert resized[1:3, 1:].sum() == 0


def test_binarized_images_keep_the_mean_gray_level():
    gray = np.full((4000, 1, 1), 0.3, dtype=np.float32)
    binary = binarize(gray, 1)
    assert set(np.unique(binary)) == {0.0, 1.0}
    assert abs(binary.mean() - 0.3) < 0.03
    assert (binary == binarize(gray, 1)).all()


# ---- baselines -------------------------------------------------------------------------------------------------------


def test_a_bernoulli_mixture_beats_independent_pixels():
    """Of two images, each half of the time, the mixture learns both; independent pixels cost log 2 each."""
    images = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]] * 40, dtype=np.float32)
    independent = independent_bernoulli(images, images).mean()
    mixture = bernoulli_mixture(images, images, 4, 0, Progress()).mean()
    assert independent == pytest.approx(6 * np.log(2), rel=1e-5)
    assert np.log(2) <= mixture < 0.25 * independent


# ---- generation ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> ImageGenerator:
    return ImageGenerator(**TINY, class_conditional=True).fit(strokes())


def test_generated_images_have_the_requested_labels(generator: ImageGenerator):
    assert [generated.label for generated in generator.predict(4)] == ["along", "up", "along", "up"]
    assert {generated.label for generated in generator.predict("3", label="up")} == {"up"}
    same, other = generator.predict(2, seed=1), generator.predict(2, seed=2)
    assert np.array_equal(same[0].canvases, generator.predict(2, seed=1)[0].canvases)
    assert not np.array_equal(same[0].canvases, other[0].canvases)
    assert same[0].canvases.shape == (3, 6, 5)
    assert same[0].windows.shape == (3, 5)
    assert ((same[0].image >= 0) & (same[0].image <= 1)).all()


def test_invalid_generation_requests_are_refused(generator: ImageGenerator):
    with pytest.raises(SettingError, match=r"unknown label 'round': the model knows along, up"):
        generator.predict(1, label="round")
    with pytest.raises(SettingError, match="must be from 1 to 10,000, not 0"):
        generator.predict(0)
    with pytest.raises(DataError, match="unknown class 'round'"):
        generator.evaluate((strokes(2)[0], ["up", "round"]))
    unconditional = ImageGenerator(**TINY).fit(strokes())
    with pytest.raises(SettingError, match="this model has no classes"):
        unconditional.predict(1, label="up")
    with pytest.raises(DataError, match="has no label"):
        ImageGenerator(**TINY, class_conditional=True).fit(strokes()[0])
    with pytest.raises(DataError, match="nothing to learn"):
        ImageGenerator(**TINY).fit(np.zeros((30, 6, 5)))


def test_results_are_written_as_image_grid_animation_and_text(generator: ImageGenerator, tmp_path: Path):
    generated = generator.predict(3)
    generator.write(generated, tmp_path / "sheet.png")
    generator.write(generated, tmp_path / "film.gif")
    generator.write(generated, tmp_path / "signs.txt")
    with Image.open(tmp_path / "sheet.png") as grid, Image.open(tmp_path / "film.gif") as animation:
        assert grid.size == (4 * (3 * 6 + 1), 4 * 8)
        assert getattr(animation, "n_frames", 1) > 1
    lines = (tmp_path / "signs.txt").read_text().rstrip("\n").split("\n")
    assert [len(line) for line in lines[:7]] == [*[10] * 6, 0]


def test_reconstructions_resemble_the_originals(trained: ImageGenerator):
    reconstructions = trained.predict(strokes(20))
    accuracies = [
        ((reconstruction.image > 0.5) == (reconstruction.original > 0.5)).mean()
        for reconstruction in reconstructions
        if reconstruction.original is not None
    ]
    assert len(accuracies) == 20
    assert np.mean(accuracies) > 0.9


def test_a_loaded_model_generates_the_same_images(generator: ImageGenerator, tmp_path: Path):
    generator.save(tmp_path / "model")
    loaded = lstmkit.load(tmp_path / "model")
    assert np.array_equal(loaded.predict(3)[2].canvases, generator.predict(3)[2].canvases)
    assert loaded.evaluate(strokes(20)).missing_baselines == ("Bernoulli mixture",)
