"""Pictures painted with attention: learnt from examples, stroke by stroke, looked at and painted through a window."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.vision.image_io import FILE_SUFFIXES
from lstmkit.data.vision.image_set import (
    MAX_IMAGE_SIZE,
    ImageDataset,
    Images,
    Size,
    binarize,
    encode_labels,
    read_images,
)
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.splitting import looked_at, random_split
from lstmkit.jobs.image_generator.baselines import bernoulli_mixture, independent_bernoulli
from lstmkit.jobs.image_generator.plots import drawing_steps_figure, image_grid_figure
from lstmkit.jobs.image_generator.results import GeneratedImage, draw_networks, sample_images, text_of, write_image_grid
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.draw import DrawModel, DrawState
from lstmkit.modules.draw_attention import DrawReader, FullImageReader, FullImageWriter, Writer
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.predict import predict

_COMPONENTS = 100  # of the mixture beside it
_MAX_SAMPLES = 10_000
_DRAWN = 5  # pictures that are drawn step by step
_BEST = {"nats": "low", "of it the canvas": "low", "of it the latent": "low"}


@settings_class
class ImageGenerator(Job):
    """Learn to paint pictures like those given: DRAW (Gregor et al. 2015), with attention in reading and painting.

    Data: a folder or zip of pictures, one picture, MNIST's files (``"images,labels"``), or arrays ``(N, H, W)``; see
    ``lstmkit.data.vision.image_set.read_images``. Pictures have one shade a dot. To predict: how many to paint, or
    pictures to be painted again.

    >>> crosses = np.stack([np.roll(np.eye(4), shift, axis=1) for shift in (0, 1) * 20])
    >>> painter = ImageGenerator(height=4, width=4, hidden_size=8, steps=2, latent=2, epochs=1).fit(crosses)
    >>> painter.predict(3)[0].picture.shape
    (4, 4)
    """

    name: ClassVar[str] = "image_generator"
    summary: ClassVar[str] = "Paint pictures like those given, stroke by stroke through a window, beside a mixture."

    height: int = setting("dots of a picture from top to bottom, as painted", default=28, low=2, high=MAX_IMAGE_SIZE)
    width: int = setting("dots of a picture from left to right", default=28, low=2, high=MAX_IMAGE_SIZE)
    inverted: bool = setting("what is dark is the ink; else what is bright", default=False)
    shades: str = setting(
        "what shades are: the probability of ink, drawn anew in every epoch; ink from one half on; or as they are",
        default="drawn",
        choices=("drawn", "halved", "kept"),
    )
    kinds: bool = setting("tell the model each picture's label, to paint pictures of a kind", default=False)
    steps: int = setting("strokes of a picture", default=32, low=1, high=1000)
    latent: int = setting("width of the latent variable of a stroke", default=32, low=1)
    read_size: int = setting("filters along a side of the window that is looked through; 0 to see all", default=5,
                             low=0, high=MAX_IMAGE_SIZE)  # fmt: skip
    write_size: int = setting("filters along a side of the window that is painted through; 0 to paint everywhere",
                              default=5, low=0, high=MAX_IMAGE_SIZE)  # fmt: skip
    hidden_size: int = setting("units in a layer, of encoder and decoder each", default=256, low=1)
    dropout: float = setting("share of values dropped between layers in training", default=0.0, low=0, high=0.95)
    batch_size: int = setting("pictures in a step", default=100, low=1)
    average: float = setting(
        "decay of the moving average of weights that is kept; 0 for none", default=0.999, low=0, high=1
    )
    clip: float = setting("largest norm of the gradient; 0 for no clipping", default=5.0, low=0)
    valid_share: float = setting("share of the pictures to validate on", default=0.05, low=0, high=0.5)
    test_share: float = setting("share of the pictures held out for the test", default=0.1, low=0, high=0.5)

    _kinds: tuple[str, ...] = field(default=(), init=False, repr=False)
    _mean_image: np.ndarray | None = field(
        default=None, init=False, repr=False
    )  # (height, width), the training part's mean
    _train_part: Images | None = field(default=None, init=False, repr=False)  # not saved, nor the next
    _shown: Images | None = field(default=None, init=False, repr=False)

    # ---- from file to pictures -----------------------------------------------------------------------------------

    def read(self, data: Any) -> Images:
        return read_images(data, Size(self.height, self.width, self.inverted))

    def split(self, examples: Images, validation: Images | None) -> DataSplit:
        for given in (examples, validation):
            if given is not None and not np.ptp(given.pictures):
                raise DataError(f"{given.name}: all dots of all pictures are the same: there is nothing to learn")
        return random_split(examples, validation, "picture", self.valid_share, self.test_share, self.seed)

    def prepare(self, train: Images) -> None:
        """The mean picture; with kinds which there are."""
        self._kinds = tuple(sorted(set(train.require_labels()))) if self.kinds else ()
        self._mean_image, self._train_part = train.pictures.mean(axis=0), train

    def source(self, examples: Images) -> ImageDataset:
        """Of the training part shades as they are: they are drawn anew at every step; else drawn once, by the seed."""
        kinds = encode_labels(examples.require_labels(), self._kinds, examples.name) if self.kinds else None
        anew = self.shades == "drawn" and examples is self._train_part
        return ImageDataset(examples.pictures if anew else self._binarized(examples.pictures), kinds)

    def _binarized(self, pictures: np.ndarray) -> np.ndarray:
        if self.shades == "drawn":
            return binarize(pictures, self.seed)
        return (pictures >= 0.5).astype(np.float32) if self.shades == "halved" else pictures

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        shape, kinds, hidden = (self.height, self.width), len(self._kinds), self.hidden_size
        stack = {"num_layers": self.num_layers, "dropout": self.dropout}
        decoder = build_trunk(self.cell, self.latent + kinds, hidden, **stack)
        wide = decoder.output_size
        reader = DrawReader(wide, *shape, self.read_size) if self.read_size else FullImageReader()
        writer = Writer(wide, *shape, self.write_size) if self.write_size else FullImageWriter(wide, *shape)
        seen = 2 * (self.read_size**2 if self.read_size else self.height * self.width)
        encoder = build_trunk(self.cell, seen + wide + kinds, hidden, **stack)
        model = DrawModel(reader, encoder, decoder, writer, shape, self.latent, self.steps, kinds,
                          sampled=self.shades == "drawn")  # fmt: skip
        if self._mean_image is not None:
            ink = torch.from_numpy(self._mean_image).clamp(0.01, 0.99)
            model.blank.data.copy_(ink.logit())  # an empty canvas is the mean picture
        return model

    def calibrate(self, valid: Images | None) -> None:
        """Nothing: a canvas's probabilities are what the bound has scored."""

    # ---- painting ------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, kind: str = "", seed: int = 0) -> list[GeneratedImage]:
        """Paint.

        Args:
            data: How many pictures to paint, a number (on the command line too); or pictures to be painted again,
                each with the mean of its latent variables.
            kind: Of which kind; with kinds, and none named, they take turns. Pictures that are painted again are of
                their own kind.
            seed: Of what is painted.

        Raises:
            SettingError: There is no such kind, or the number does not do.
        """
        self.model  # noqa: B018  (says so if there is none)
        count = _number(data)
        if count is None:
            return self._reconstruct(self.read(data))
        if not 1 <= count <= _MAX_SAMPLES:
            raise SettingError(f"give from 1 to {_MAX_SAMPLES:,} pictures to paint, not {count:,}")
        return self._generate(count, kind, seed)

    def _generate(self, count: int, kind: str, seed: int) -> list[GeneratedImage]:
        if kind and kind not in self._kinds:
            known = f"it knows {listing(self._kinds)}" if self._kinds else "it has learnt without kinds (--kinds)"
            raise SettingError(f"there is no kind {kind!r}: {known}")
        of_each = [kind or self._kinds[i % len(self._kinds)] for i in range(count)] if self._kinds else [""] * count
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(count, self.steps, self.latent, generator=generator)
        members, found = draw_networks(self.model.eval()), []
        device = next(self.model.parameters()).device
        for start in range(0, count, self.batch_size):
            rows = slice(start, start + self.batch_size)
            number = (
                torch.from_numpy(encode_labels(of_each[rows], self._kinds, "kinds")).to(device) if self.kinds else None
            )
            model = members[(start // self.batch_size) % len(members)]  # an ensemble's take turns
            both = sample_images(model, noise[rows].to(device), number)
            found += [
                GeneratedImage(of_each[start + i] or f"picture {start + i + 1}", of_each[start + i], *one)
                for i, one in enumerate(zip(*both, strict=True))
            ]
        return found

    def _reconstruct(self, images: Images) -> list[GeneratedImage]:
        source = self.source(images)

        def decode(model: Model, batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
            one = draw_networks(model)[0]
            told, _ = one.read(batch.inputs, one.begin(len(batch), batch.extras.get("kind")))
            both = (told.canvases.sigmoid(), told.windows)
            return list(zip(*(of.float().cpu().numpy() for of in both), strict=True))

        loader = Loader(source, self.batch_size)
        found = predict(self.model, loader, decode, device=self._device(), title="painting")
        kinds = images.labels if self.kinds else [""] * len(images)
        return [
            GeneratedImage(name, kind or "", *one, given)
            for name, kind, one, given in zip(images.ids, kinds, found, source.pictures, strict=True)
        ]

    def text(self, answer: list[GeneratedImage]) -> str:
        """Each picture in signs, a blank line between."""
        return "\n\n".join(text_of(one) for one in answer)

    def write(self, answer: list[GeneratedImage], path: Path) -> None:
        """A sheet of pictures (``.png`` and others), a film of how they are painted (``.gif``), or text."""
        if path.suffix.lower() in FILE_SUFFIXES:
            write_image_grid(answer, path, self.inverted)
        else:
            super().write(answer, path)

    def records(self, answer: list[GeneratedImage]) -> list[dict[str, Any]]:
        """Of each its name, its kind, and the probability of ink in hundredths, row by row."""
        return [
            {"name": one.name, "kind": one.kind, "ink": (100 * one.picture).round().astype(int).tolist()}
            for one in answer
        ]

    def picture(self, data: Any, answer: list[GeneratedImage]) -> Figure:
        """How the first are painted, step by step."""
        drawn = answer[:_DRAWN]
        return drawing_steps_figure(
            [one.kind or one.name for one in drawn],
            [one.canvases for one in drawn],
            [one.windows for one in drawn],
            [one.given for one in drawn],
            self.write_size,
        )

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """The variational bound on pictures that fit was not given, beside dots by themselves and a mixture of them.

        The mixture learns from the pictures that this object was fitted to: a loaded model has none.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def bounds(self, images: Images, progress: Progress | None = None) -> np.ndarray:
        """``(N, 2)`` nats of each picture: what the canvas says of it, and what its latent variables cost."""

        def decode(model: Model, batch: Batch) -> np.ndarray:
            assert batch.rows is not None
            drawn = [np.random.default_rng((self.seed, row)) for row in batch.rows.tolist()]
            noise = np.stack([rng.standard_normal((self.steps, self.latent), dtype=np.float32) for rng in drawn])
            told = []
            for one in draw_networks(model):
                begun: DrawState = one.begin(len(batch), batch.extras.get("kind"))
                told.append(torch.stack(one.bound(batch.inputs, begun, torch.from_numpy(noise).to(begun.logits)), 1))
            return torch.stack(told).mean(0).float().cpu().numpy()

        loader = Loader(self.source(images), 4 * self.batch_size)
        return np.stack(predict(self.model, loader, decode, device=self._device(), progress=progress, title="scoring"))

    def score(self, test: Images, progress: Progress) -> Evaluation:
        assert self._mean_image is not None
        each = self.bounds(test, progress)
        said, costs = each.mean(axis=0).tolist()
        nan = float("nan")
        rows = [(f"{self.cell.upper()} (upper bound)", said + costs, said, costs)]
        dots = self._binarized(test.pictures).reshape(len(test), -1)
        notes = [
            f"{len(test):,} pictures of {self.height} by {self.width} dots; nats a picture. {self._binarization_note()}",
            "The first row is an upper bound of what the model finds a picture to be, the others are exact.",
        ]
        if self._train_part is not None:
            known = self._binarized(self._train_part.pictures).reshape(len(self._train_part), -1)
            mixed = bernoulli_mixture(known, dots, _COMPONENTS, self.seed, progress)
            rows.append((f"mixture of {min(_COMPONENTS, len(known))} pictures", float(mixed.mean()), nan, nan))
        else:
            notes.append("A loaded model has not the pictures it learnt from: there is no mixture beside it.")
        alone = independent_bernoulli(self._mean_image.reshape(1, -1), dots)
        rows.append(("each dot by itself", float(alone.mean()), nan, nan))
        table = pd.DataFrame(rows, columns=pd.Index(["model", *_BEST]))
        details = pd.DataFrame({"picture": list(test.ids), "nats": each.sum(axis=1)})
        self._shown = test.part(np.arange(min(_DRAWN, len(test))))
        return Evaluation(table, dict(_BEST), details, tuple(notes))

    def _binarization_note(self) -> str:
        return {
            "drawn": f"Of the test part black and white were drawn from the shades once, by seed {self.seed}.",
            "halved": "What is at least half ink is ink.",
            "kept": "Shades are as they are, as if they were the share of ink.",
        }[self.shades]

    def sections(self, examples: Images) -> list[Section]:
        found = []
        if self.evaluation is not None:
            words = "Scores on the test part, which nothing was fitted to. " + " ".join(self.evaluation.notes)
            found.append(Section("How well it knows such pictures", words, self.evaluation.table, best=_BEST))
        count = len(self._kinds) * max(1, 40 // len(self._kinds)) if self._kinds else 40
        dreams = self._generate(min(count, 100), "", self.seed)
        found.append(
            Section(
                "What it paints",
                "New pictures, not chosen among several.",
                figure=image_grid_figure([one.picture for one in dreams], [one.kind for one in dreams]),
                caption="Pictures drawn from the model",
            )
        )
        found.append(
            Section(
                "How it paints",
                "Step by step; the frame is the window that was painted through, thick where its filters are wide.",
                figure=self.picture(None, dreams),
                caption="The canvas after some of the steps",
            )
        )
        if self._shown is not None:
            again = self._reconstruct(self._shown)
            found.append(
                Section(
                    "Pictures of the test part, painted again",
                    figure=self.picture(None, again),
                    caption="What was given, and the canvas after some of the steps",
                )
            )
        table = pd.DataFrame({"what": ["pictures", "kinds"], "count": [len(examples), len(self._kinds)]})
        return [*found, Section("The data", " ".join(f"{note}." for note in examples.notes), table)]

    def example_sequences(self, data: Any, picture: int = 1) -> list[ExampleSequence]:
        """Pictures as they are read and painted, that of number ``picture`` (from 1) first."""
        self.model  # noqa: B018
        images = self.read(data)
        source = self.source(images)
        network = draw_networks(self.network)[0]
        device = next(network.parameters()).device
        found = []
        for row in looked_at(picture, images, "picture"):
            batch = source.batch(np.array([row])).to(device)
            found.append(
                ExampleSequence(
                    (batch.inputs, network.begin(1, batch.extras.get("kind"))),
                    name=f"picture {images.ids[row]}",
                    answers={"ink in all": lambda output: output[0, -1].sigmoid().sum()},
                )
            )
        return found

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        assert self._mean_image is not None
        return {"kinds": list(self._kinds), "ink": self._mean_image.round(6).tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._kinds, self._mean_image = tuple(state["kinds"]), np.array(state["ink"], dtype=np.float32)
        if not all(isinstance(kind, str) for kind in self._kinds) or bool(self._kinds) != self.kinds:
            raise ValueError("its kinds are none")
        if (
            self._mean_image.shape != (self.height, self.width)
            or not ((self._mean_image >= 0) & (self._mean_image <= 1)).all()
        ):
            raise ValueError("its mean picture is none")


def _number(data: Any) -> int | None:
    """How many pictures to paint, if that is what is given; ``None`` for anything else."""
    if isinstance(data, str) and data.isascii() and data.isdecimal() and not Path(data).exists():
        return int(data)
    return int(data) if isinstance(data, (int, np.integer)) and not isinstance(data, bool) else None
