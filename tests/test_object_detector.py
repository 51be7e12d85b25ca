"""Objects in video: files in and out, bad input, decoding, tracking, scores, training in segments, live streams."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from job_cases import CASES, fitted, make
from lstmkit import ConvGRU2d, ConvLSTM2d, ConvRNN2d, ObjectDetector, look
from lstmkit.data.batch import Batch
from lstmkit.data.vision.box_files import (
    ClipReader,
    NamedBoxes,
    coco_json,
    csv_text,
    mot_text,
    read_boxed_clips,
    write_yolo,
)
from lstmkit.data.vision.boxed_clips import BoxedClips, Boxes, Placement
from lstmkit.data.vision.clip_segments import ClipAugmentation, EncodedClip, EncodedClips, SegmentLoader
from lstmkit.data.vision.image_io import import_pillow
from lstmkit.data.vision.video_io import ClipFormat, VideoClip, read_video, write_video
from lstmkit.decoding.center_boxes import decode_centers
from lstmkit.decoding.tracking import KalmanFilter, Tracker, assignment
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.evaluation.box_overlap import iou_matrix
from lstmkit.evaluation.detection_metrics import (
    ClipResult,
    average_precision,
    average_precision_of_matches,
    best_threshold,
    found_again,
    identity_scores,
    matches_of,
)
from lstmkit.jobs.object_detector.baselines import moving_regions, previous_boxes
from lstmkit.look.conv_layers import place_layers
from lstmkit.modules.center_head import CenterHead
from lstmkit.recipes._moving_digit_boxes import moving_digits
from lstmkit.recipes._moving_mnist import Digits

READER = ClipReader(ClipFormat(16, 16, color=False))


def square(row: int, column: int, steps: int = 6) -> tuple[np.ndarray, list[list[tuple[Any, ...]]]]:
    """A square that moves to the right, and its boxes."""
    frames = np.zeros((steps, 16, 16), dtype=np.uint8)
    for t in range(steps):
        frames[t, row : row + 4, column + t : column + t + 4] = 200
    return frames, [[("square", column + t, row, 4, 4, 7)] for t in range(steps)]


def boxed(*entries: Any) -> BoxedClips:
    return read_boxed_clips(list(entries), READER)


def save_frames(frames: np.ndarray, folder: Path) -> None:
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames):
        import_pillow("PIL.Image").fromarray(frame).save(folder / f"{k:06d}.png")


def as_rows(boxes: Boxes | None) -> list[tuple[Any, ...]]:
    assert boxes is not None
    return [(frame, label, *np.round(box, 3), track) for frame, label, *box, track, _ in boxes.rows()]


# ---- files in and out ------------------------------------------------------------------------------------------------


def test_formats_give_the_same_boxes(tmp_path: Path):
    """What the writers of CSV, COCO, MOT and YOLO write, the readers read, beside the same frames."""
    frames, boxes = square(5, 2)
    frames = frames.copy()
    boxes = [*boxes[:2], [], *boxes[3:]]  # a frame without an object
    data = boxed((frames, boxes))
    each = data.clips[0]
    assert each.boxes is not None
    named, expected = NamedBoxes("a", each.boxes, len(each), each.source_size), as_rows(each.boxes)
    save_frames(frames, tmp_path / "csv/a")
    (tmp_path / "csv/boxes.csv").write_text(csv_text([named]))
    save_frames(frames, tmp_path / "coco/a")
    for file in (tmp_path / "coco/a").iterdir():
        file.rename(file.with_suffix(".jpg"))
    (tmp_path / "coco/boxes.json").write_text(json.dumps(coco_json([named], ["square"])))
    save_frames(frames, tmp_path / "mot/a/img1")
    (tmp_path / "mot/a/gt").mkdir()
    (tmp_path / "mot/a/gt/gt.txt").write_text(mot_text(named, ["square"]))
    (tmp_path / "mot/a/labels.txt").write_text("square\n")
    save_frames(frames, tmp_path / "yolo/images/a")
    write_yolo([named], ["square"], tmp_path / "yolo")
    for path in ("csv/boxes.csv", "csv", "coco/boxes.json", "coco", "mot", "yolo"):
        found = read_boxed_clips(tmp_path / path, READER)
        assert found.classes == ("square",), path
        assert as_rows(found.clips[0].boxes) == expected, path
        np.testing.assert_array_equal(found.clips[0].clip.frames, each.clip.frames)


def test_videos_are_read_with_a_table(tmp_path: Path):
    """Boxes are in pixels of the file, whatever size the frames are read at; a clip may be named without its ending."""
    frames, _ = square(4, 2)
    write_video(np.repeat(np.repeat(frames, 4, 1), 4, 2), tmp_path / "a.mp4")
    (tmp_path / "boxes.csv").write_text("clip,frame,class,x,y,w,h\na,0,square,8,16,16,16\na,3,square,20,16,16,16\n")
    for data in (tmp_path, tmp_path / "boxes.csv", f"{tmp_path},{tmp_path / 'boxes.csv'}"):
        (each,) = read_boxed_clips(data, READER).clips
        assert each.source_size == (64, 64)
        assert len(each) == 6
        assert each.boxes is not None
        assert each.placement.to_model(each.boxes.xywh).tolist() == [[2, 4, 4, 4], [5, 4, 4, 4]]
    assert read_boxed_clips(tmp_path / "a.mp4", READER).clips[0].boxes is None


def test_boxes_follow_the_padding_of_frames():
    """A wide frame is padded above and below; boxes go there and back."""
    placement = Placement.of((50, 100), (64, 64))
    assert placement == Placement(0.64, 0.64, 0, 16)
    xywh = np.array([[10.0, 20, 30, 5]])
    assert placement.to_model(xywh).round(6).tolist() == [[6.4, 28.8, 19.2, 3.2]]
    np.testing.assert_allclose(placement.to_file(placement.to_model(xywh)), xywh)
    frames = np.zeros((1, 50, 100), dtype=np.uint8)
    frames[0, 20:40, 10:50] = 255
    (each,) = read_boxed_clips([frames], ClipReader(ClipFormat(64, 64, color=False))).clips
    x, y, w, h = placement.to_model(np.array([[10.0, 20, 40, 20]]))[0]
    inside = each.clip.frames[0, round(y + 1) : round(y + h - 1), round(x + 1) : round(x + w - 1)]
    assert inside.min() > 200
    assert each.clip.frames[0].sum() / 255 == pytest.approx(w * h, rel=0.1)


def test_every_nth_frame_keeps_its_boxes():
    (each,) = read_boxed_clips([square(5, 2)], READER._replace(frame_step=2)).clips
    assert len(each) == 3
    assert [row[:3] for row in as_rows(each.boxes)] == [(0, "square", 2), (1, "square", 4), (2, "square", 6)]


def test_empty_frames_and_clips_without_a_box_count(tmp_path: Path):
    """A row with a clip alone says that it has no object: it is trained on and scored, not left out."""
    for name in "ab":
        write_video(square(4, 2)[0], tmp_path / f"{name}.mp4")
    (tmp_path / "boxes.csv").write_text("clip,frame,class,x,y,w,h\na,1,square,1,1,4,4\nb,,,,,,\n")
    data = read_boxed_clips(tmp_path / "boxes.csv", READER)
    assert [len(each.boxes or ()) for each in data.clips] == [1, 0]
    assert len(data.annotated()) == 2


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "phrase"),
    [
        (("a", 1, 1, -4, 4), "clip 1, frame 0: the box x=1, y=1, w=-4, h=4 has a width or height that is not above 0"),
        (("a", 1, 1, 0, 4), "has a width or height that is not above 0"),
        (("a", float("nan"), 1, 4, 4), "is not four numbers"),
        (("a", 1, 1, 4, float("inf")), "is not four numbers"),
        (("a", 20, 1, 4, 4), "lies outside the frame of 16 x 16 pixels"),
        (("a", -6, 1, 4, 4), "lies outside the frame"),
        (("a", 1, 1, 4), "clip 1: a box is not"),
        (("a", "left", 1, 4, 4), "clip 1: a box is not"),
    ],
    ids=str,
)
def test_a_bad_box_is_refused_by_clip_and_frame(box: tuple[Any, ...], phrase: str):
    with pytest.raises(DataError, match=phrase) as caught:
        boxed((np.zeros((1, 16, 16)), [[box]]))
    assert "\n" not in str(caught.value)


def test_a_box_that_leaves_the_frame_is_cut_with_a_note():
    data = boxed((np.zeros((2, 16, 16)), [[("a", -2, 10, 8, 8)], [("a", 0, 0, 16, 16)]]))
    assert as_rows(data.clips[0].boxes)[0] == (0, "a", 0, 10, 6, 6, -1)
    assert data.notes == ("1 boxes of clip 1 leave the frame and are cut at its border",)
    detector = ObjectDetector(height=16, width=16, epochs=1, steps_per_epoch=1, hidden_size=2, conv_channels=2)
    assert detector.notes_on(data) == data.notes


@pytest.mark.parametrize(
    ("row", "phrase"),
    [
        ("a,9,square,1,1,4,4", "a has 6 frames, 0 to 5, but a box is in frame 9: check that the video is complete"),
        ("a,-1,square,1,1,4,4", "but a box is in frame -1"),
        ("a,0.5,square,1,1,4,4", "frame.*is not a whole number"),
        ("a,0,,1,1,4,4", "is not a class"),
        ("a,0,square,one,1,4,4", "is not a number"),
        ("a,0,square,1,1,4,nan", "is not a number"),
        ("b,0,square,1,1,4,4", "names the clip 'b', which is not in"),
        ("../a,0,square,1,1,4,4", "which is not in"),
    ],
)
def test_a_bad_row_of_a_table_is_refused(row: str, phrase: str, tmp_path: Path):
    (tmp_path / "data").mkdir()
    write_video(square(4, 2)[0], tmp_path / "data/a.mp4")
    (tmp_path / "data/boxes.csv").write_text(f"clip,frame,class,x,y,w,h\n{row}\n")
    with pytest.raises(DataError, match=phrase):
        read_boxed_clips(tmp_path / "data/boxes.csv", READER)


@pytest.mark.parametrize(
    ("name", "content", "phrase"),
    [
        ("boxes.csv", "clip,frame,x,y,w,h\na,0,1,1,4,4\n", "has no column class"),
        ("boxes.json", "{", "is not a readable COCO file"),
        ("boxes.json", "[]", "is not a readable COCO file"),
        ("boxes.json", '{"images": [], "categories": []}', "has no clips"),
        (
            "boxes.json",
            '{"images": [{"id": 1, "file_name": "x/1.jpg"}], "categories": [], "annotations": []}',
            "names 1 files that do not exist",
        ),
        (
            "boxes.json",
            '{"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1]}]}',
            "has no image, category or box",
        ),
    ],
)
def test_a_bad_file_of_boxes_is_refused(name: str, content: str, phrase: str, tmp_path: Path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=phrase):
        read_boxed_clips(tmp_path / name, READER)


def test_other_bad_folders_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="has no video files and no folders of frames"):
        read_boxed_clips(tmp_path, READER)
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/gt.txt").write_text("1,1,x,1,1,1\n")
    with pytest.raises(DataError, match="line 1 is not frame,id,left,top,width,height"):
        read_boxed_clips(tmp_path, READER)
    (tmp_path / "gt/gt.txt").write_text("1,1,1,1,1,1\n")
    with pytest.raises(DataError, match="has no frames in img1/"):
        read_boxed_clips(tmp_path, READER)
    save_frames(square(1, 1)[0], tmp_path / "yolo/images/a")
    (tmp_path / "yolo/labels/a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no classes\.txt"):
        read_boxed_clips(tmp_path / "yolo", READER)
    (tmp_path / "yolo/classes.txt").write_text("square\n")
    (tmp_path / "yolo/labels/a/000000.txt").write_text("3 .5 .5 .1 .1\n")
    with pytest.raises(DataError, match=r"000000\.txt, line 1 is not `class x y w h` of a known class"):
        read_boxed_clips(tmp_path / "yolo", READER)


def test_a_truncated_video_is_refused(tmp_path: Path):
    path = tmp_path / "a.mp4"
    write_video(np.random.default_rng(0).integers(0, 255, (30, 64, 64), dtype=np.uint8), path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"a\.mp4"):
        read_boxed_clips(path, READER)


def test_frames_of_several_sizes_are_refused(tmp_path: Path):
    save_frames(square(1, 1)[0], tmp_path / "a")
    import_pillow("PIL.Image").fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a/000003.png")
    with pytest.raises(DataError, match=r"000003\.png in a has another size than the first frame"):
        read_boxed_clips(tmp_path, READER)


def test_a_variable_frame_rate_is_noted():
    frames, boxes = square(1, 1, 4)
    clip = VideoClip("a", frames[..., None], np.array([0.0, 0.1, 0.2, 0.9]), 10.0)
    data = boxed((clip, boxes))
    assert data.notes == ("the frame rate of a varies: boxes belong to frames by their number, not by their time",)


def test_clips_without_boxes_are_refused_for_training_and_scores():
    detector, frames = make("object_detector"), [square(1, 1)[0]] * 12
    with pytest.raises(DataError, match="the data has no boxes: give them with the clips"):
        detector.fit(frames)
    with pytest.raises(DataError, match="has no boxes"):
        fitted("object_detector").evaluate(frames)
    some = boxed(square(1, 1), square(1, 1)[0]).annotated()
    assert len(some) == 1
    assert some.notes == ("1 of 2 clips of the data have no boxes in the table and are left out",)
    with pytest.raises(DataError, match="no training clip has a box"):
        detector.fit([(clip, [[]] * 6) for clip in frames])


def test_classes_unseen_in_training_are_refused():
    frames, boxes = square(1, 1)
    other = [[("circle", *box[1:]) for box in of_frame] for of_frame in boxes]
    with pytest.raises(DataError, match="has classes that training had not: circle: rename or remove their boxes"):
        fitted("object_detector").evaluate([(frames, other)])
    with pytest.raises(DataError, match="classes that training had not: circle"):
        make("object_detector").fit(CASES["object_detector"].data(), validation=[(frames, other)])


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingError, match="kernel_size must be odd, got 2"):
        make("object_detector", kernel_size=2).fit(CASES["object_detector"].data())
    for threshold in (0.0, 1.5, -0.5):
        with pytest.raises(SettingError, match="threshold must be above 0 and at most 1, or -1"):
            fitted("object_detector").predict([square(1, 1)[0]], threshold=threshold)


# ---- segments --------------------------------------------------------------------------------------------------------


def encoded(steps: int, value: int = 0) -> EncodedClip:
    frames = np.full((steps, 8, 8, 1), value, dtype=np.uint8)
    frames[:, 0, 0, 0] = np.arange(steps)
    targets = np.full((steps, 1, 5), np.nan, dtype=np.float32)
    targets[:, 0] = [0, 4, 4, 2, 2]
    return EncodedClip(frames, targets)


def test_rows_continue_from_batch_to_batch():
    loader = SegmentLoader(EncodedClips([encoded(50, 1), encoded(30, 2)]), 3, 4, segment_batches=3, seed=0, n_batches=7)
    batches = list(loader.epoch(2))
    assert len(batches) == len(loader) == 7
    assert [batch.continues for batch in batches] == [False, True, True, False, True, True, False]
    for before, after in itertools.pairwise(batches):
        if after.continues:
            numbers = after.inputs[:, 0, 0, 0, 0].int() - before.inputs[:, -1, 0, 0, 0].int()
            assert numbers.tolist() == [1, 1, 1]
            assert torch.equal(after.inputs[:, 0, 4, 4], before.inputs[:, 0, 4, 4])
    again = list(loader.epoch(2))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches, again, strict=True))
    assert not all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches, loader.epoch(3), strict=True))


def test_without_a_seed_every_frame_is_read_once():
    clips = [encoded(steps) for steps in (5, 9, 1, 12)]
    loader = SegmentLoader(EncodedClips(clips), 2, 4)
    batches = list(loader.epoch())
    assert len(batches) == len(loader)
    assert sum(int(batch.lengths.sum()) for batch in batches if batch.lengths is not None) == 27
    assert [batch.continues for batch in batches] == [False, True, False, True, True]


def test_augmentation_moves_frames_and_boxes_alike():
    """After any augmentation the box is where the bright square is, in all frames of the segment."""
    frames = np.zeros((3, 20, 30, 1), dtype=np.uint8)
    frames[:, 8:12, 10:16] = 250
    targets = np.array([[[0, 13, 10, 6, 4], [np.nan] * 5]] * 3, dtype=np.float32)
    augment, rng = ClipAugmentation(0.2, True, 0.1), np.random.default_rng(0)
    places = set()
    for _ in range(30):
        changed = augment(EncodedClip(frames, targets), rng)
        for pixels, boxes in zip(changed.frames, changed.targets, strict=True):
            rows, columns = np.nonzero(pixels[..., 0] > 125)
            x, y, w, h = boxes[0, 1:]
            assert (columns.min(), columns.max() + 1) == (x - w / 2, x + w / 2)
            assert (rows.min(), rows.max() + 1) == (y - h / 2, y + h / 2)
            assert np.isnan(boxes[1]).all()
        places.add((float(x), float(y)))
    assert len(places) > 10
    assert frames.max() == 250  # the original is not changed


def test_blanked_frames_keep_their_boxes_and_noise_is_bounded():
    clip = encoded(200, 100)
    blanked = ClipAugmentation(blank_probability=0.3)(clip, np.random.default_rng(0))
    black = (blanked.frames.reshape(200, -1).max(1) == 0).sum()
    assert 40 < black < 80
    np.testing.assert_array_equal(blanked.targets, clip.targets)
    noisy = ClipAugmentation(max_noise=0.1)(clip, np.random.default_rng(1)).frames[:, 1:].astype(float)
    assert 0 < noisy.std() < 26
    assert noisy.mean() == pytest.approx(100, abs=2)


def test_a_box_whose_center_leaves_the_frame_is_dropped():
    clip = encoded(1)
    targets = clip.targets.copy()
    targets[0, 0, 1:3] = 0.5, 4
    moved = [ClipAugmentation(0.5)(EncodedClip(clip.frames, targets), np.random.default_rng(k)) for k in range(40)]
    exists = [bool(np.isfinite(each.targets[0, 0, 0])) for each in moved]
    assert 5 < sum(exists) < 35
    for each in moved:
        x, y, w, h = each.targets[0, 0, 1:]
        assert np.isnan(x) or (x - w / 2 >= 0 and y - h / 2 >= 0 and x + w / 2 <= 8 and y + h / 2 <= 8)


# ---- head and decoding -----------------------------------------------------------------------------------------------


def perfect_outputs(boxes: list[tuple[int, float, float, float, float]], classes: int, side: int, stride: int) -> Any:
    """The outputs of a head that knows the boxes ``(class, center x, center y, w, h)`` in pixels."""
    outputs = np.full((classes + 4, side, side), -9.0)
    outputs[classes:] = 0
    for label, x, y, w, h in boxes:
        row, column = int(y // stride), int(x // stride)
        outputs[label, row, column] = 9.0
        outputs[classes:, row, column] = np.log(w / stride), np.log(h / stride), x / stride % 1, y / stride % 1
    return outputs


BOXES = [(0, 10.0, 13.0, 8.0, 6.0), (2, 50.5, 40.2, 3.0, 20.0), (1, 51.0, 12.0, 30.0, 10.0)]


def test_peaks_become_boxes():
    found = decode_centers(perfect_outputs(BOXES, 3, 16, 4), 4)
    expected = {label: [x - w / 2, y - h / 2, w, h] for label, x, y, w, h in BOXES}
    assert found.classes.tolist() in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])
    for label, box in zip(found.classes.tolist(), found.xywh, strict=True):
        np.testing.assert_allclose(box, expected[label], atol=1e-9)
    assert (found.scores > 0.99).all()
    assert len(found.above(0.9999).scores) == 0


def test_of_two_classes_at_one_place_the_better_one_is_kept():
    outputs = perfect_outputs([(0, 10.0, 13.0, 8.0, 6.0)], 2, 8, 4)
    outputs[1, 3, 2] = 4.0
    assert decode_centers(outputs, 4).classes.tolist() == [0]


def test_decoding_bears_any_numbers():
    outputs = np.full((6, 4, 4), 1e30, dtype=np.float32)
    outputs[3:] = -1e30
    found = decode_centers(outputs, 4)
    assert np.isfinite(found.xywh).all()


def test_the_loss_is_least_for_the_true_outputs():
    """The outputs that decode to the true boxes have nearly no loss; others have more; padding adds nothing."""
    head = CenterHead(4, 4, 3, stride=4)
    targets = torch.full((1, 2, 4, 5), torch.nan)
    targets[0, 0, :3] = torch.tensor([(label, x, y, w, h) for label, x, y, w, h in BOXES])
    known = np.stack([perfect_outputs(BOXES, 3, 16, 4), perfect_outputs([], 3, 16, 4)])
    outputs = torch.from_numpy(known[None]).float()
    batch = Batch(torch.zeros(1, 2, 64, 64, 1), torch.tensor([2]), targets)
    perfect = float(head.loss(outputs, batch))
    assert perfect < 1e-2
    worse = outputs.clone()
    worse[0, 0, 3:5] += 0.5
    assert float(head.loss(worse, batch)) > perfect + 0.5
    wrong = outputs.clone()
    wrong[0, 1, 0, 8, 8] = 9.0
    assert float(head.loss(wrong, batch)) > perfect + 1
    short = Batch(batch.inputs, torch.tensor([1]), targets)
    assert float(head.loss(wrong, short)) == pytest.approx(perfect, abs=1e-3)
    assert np.isfinite(float(head.loss(outputs, Batch(batch.inputs, None, torch.full((1, 2, 1, 5), torch.nan)))))


def test_iou_of_known_boxes():
    a = np.array([[0.0, 0, 2, 2], [5, 5, 1, 1]])
    np.testing.assert_allclose(iou_matrix(a, a), np.eye(2))


# ---- tracking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_assignment_is_that_of_scipy(seed: int):
    rng = np.random.default_rng(seed)
    costs = rng.normal(size=tuple(rng.integers(1, 9, 2)))
    rows, columns = linear_sum_assignment(costs)
    pairs = assignment(costs)
    assert sum(costs[pair] for pair in pairs) == pytest.approx(costs[rows, columns].sum())
    assert len(pairs) == min(costs.shape)


def test_pairs_that_are_not_allowed_are_never_made():
    costs = np.array([[1.0, np.inf], [0.5, np.inf]])
    assert assignment(costs) == [(1, 0)]
    assert assignment(np.full((2, 3), np.inf)) == []
    assert assignment(np.zeros((0, 3))) == []
    # As many pairs as are allowed, even if fewer would cost less.
    assert assignment(np.array([[0.0, 9.0], [1.0, np.inf]])) == [(0, 1), (1, 0)]


def test_the_filter_finds_position_and_speed():
    kalman, rng = KalmanFilter(), np.random.default_rng(0)
    mean, covariance = kalman.start(np.array([0.0, 0, 10, 10]))
    for t in range(1, 60):
        mean, covariance = kalman.predict(mean, covariance, 1.0)
        mean, covariance = kalman.update(mean, covariance, np.array([2.0 * t, -t, 10, 10]) + rng.normal(0, 0.2, 4))
    assert mean[:4] == pytest.approx([118 + 5, -59 + 5, 10, 10], abs=0.5)
    assert mean[4:6] == pytest.approx([2, -1], abs=0.2)
    assert np.linalg.eigvalsh(covariance).min() > 0


def one(x: float, y: float = 0.0, score: float = 0.9, label: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([[x, y, 4.0, 4.0]]), np.array([label]), np.array([score])


def test_a_hidden_object_gets_its_identity_back():
    """After some frames unseen, where its speed has carried it; but not after more than ``max_unseen`` frames."""
    for hidden, expected in ((5, 1), (30, 2)):
        tracker, nothing = Tracker(max_unseen=15), (np.zeros((0, 4)), np.zeros(0, dtype=int), np.zeros(0))
        for t in range(10):
            tracker.step(*one(2.0 * t))
        for _ in range(hidden):
            assert tracker.step(*nothing).tolist() == []
        assert tracker.step(*one(2.0 * (10 + hidden))).tolist() == [expected]
        assert len(tracker.tracks) == 1


def test_objects_that_cross_keep_their_identities():
    tracker = Tracker()
    for t in range(20):
        xywh = np.array([[2.0 * t, 0, 4, 4], [38 - 2.0 * t, 1, 4, 4]])
        ids = tracker.step(xywh, np.zeros(2, dtype=int), np.full(2, 0.9))
    assert ids.tolist() == [1, 2]


def test_weak_detections_continue_tracks_but_start_none():
    tracker = Tracker(threshold=0.5, low_threshold=0.2)
    assert tracker.step(*one(0, score=0.3)).tolist() == [-1]
    assert tracker.step(*one(0, score=0.6)).tolist() == [1]
    assert tracker.step(*one(0.5, score=0.3)).tolist() == [1]
    assert tracker.step(*one(1.0, score=0.1)).tolist() == [-1]
    assert tracker.step(*one(1.0, label=1)).tolist() == [2]  # of another class


def test_the_memory_of_a_tracker_is_bounded():
    tracker, rng = Tracker(max_unseen=10_000), np.random.default_rng(0)
    for _ in range(120):
        xywh = np.concatenate([rng.uniform(0, 1e6, (20, 2)), np.full((20, 2), 2.0)], 1)
        tracker.step(xywh, np.zeros(20, dtype=int), np.full(20, 0.9))
    assert len(tracker.tracks) <= 1000


# ---- scores ----------------------------------------------------------------------------------------------------------


def result(truth: Boxes, found: Boxes, steps: int, classes: list[str], tracks: bool = False) -> ClipResult:
    numbers = [np.array([classes.index(label) for label in boxes.labels], dtype=int) for boxes in (truth, found)]
    own = (found.frames, found.xywh, found.ids) if tracks else None
    true = (truth.frames, numbers[0], truth.xywh, truth.ids)
    return ClipResult(steps, *true, found.frames, numbers[1], found.xywh, found.scores, own)


def random_result(seed: int) -> ClipResult:
    rng = np.random.default_rng(seed)
    count, extra = 30, 20
    frames, classes, kept = np.sort(rng.integers(0, 10, count)), rng.integers(0, 3, count), rng.random(count) < 0.7
    xywh = np.c_[rng.uniform(0, 50, (count, 2)), rng.uniform(5, 20, (count, 2))]
    wrong = np.c_[rng.uniform(0, 50, (extra, 2)), np.full((extra, 2), 9)]
    own = np.r_[xywh[kept] + rng.normal(0, 1, (kept.sum(), 4)), wrong]
    own_frames = np.r_[frames[kept], rng.integers(0, 10, extra)]
    own_classes = np.r_[classes[kept], rng.integers(0, 3, extra)]
    scores = rng.random(len(own))
    return ClipResult(10, frames, classes, xywh, np.arange(count), own_frames, own_classes, own, scores, None)


def test_the_fast_precision_is_that_of_coco():
    results = [random_result(seed) for seed in range(12)]
    expected = average_precision(results, 3).ap50
    assert 0.2 < expected < 0.9
    assert average_precision_of_matches([matches_of(each, 3) for each in results]) == pytest.approx(expected)


def test_precision_of_known_detections():
    truth = Boxes.of_rows([(0, "a", 0, 0, 10, 10), (1, "a", 0, 0, 10, 10), (1, "b", 50, 50, 40, 40)])
    perfect = average_precision([result(truth, truth, 2, ["a", "b", "c"])], 3)
    assert (perfect.ap, perfect.ap50) == (pytest.approx(1.0), pytest.approx(1.0))
    assert perfect.ap50_by_class.tolist() == pytest.approx([1.0, 1.0, np.nan], nan_ok=True)
    assert perfect.ap50_by_size == pytest.approx((1.0, 1.0, np.nan), nan_ok=True)
    loose = Boxes.of_rows([(0, "a", 2, 0, 10, 10), (1, "a", 2, 0, 10, 10)])  # IoU .667; b is missed
    found = average_precision([result(truth, loose, 2, ["a", "b", "c"])], 3)
    assert found.ap50 == pytest.approx(0.5)
    assert found.ap == pytest.approx(0.5 * 4 / 10)  # at .5, .55, .6 and .65
    nothing = average_precision([result(truth, Boxes.of_rows([]), 2, ["a", "b", "c"])], 3)
    assert (nothing.ap50, nothing.ap50_by_class.tolist()[:2]) == (0.0, [0.0, 0.0])
    assert np.isnan(average_precision([result(Boxes.of_rows([]), truth, 2, ["a", "b", "c"])], 3).ap50)


def test_identity_scores_of_known_tracks():
    truth = Boxes.of_rows([(t, "a", t, 0, 10, 10, 1) for t in range(10)])
    switched = Boxes.of_rows([(t, "a", t, 0, 10, 10, 1 if t < 6 else 2) for t in range(10)])
    assert identity_scores([result(truth, truth, 10, ["a"], tracks=True)])["IDF1"] == 1.0
    scores = identity_scores([result(truth, switched, 10, ["a"], tracks=True)])
    assert scores["IDF1"] == pytest.approx(0.6)
    assert scores["MOTA"] == pytest.approx(0.9)
    assert np.isnan(scores["found again"])


def test_hidden_objects_are_found_again_or_not():
    truth = Boxes.of_rows([(t, "a", t, 0, 10, 10, 1) for t in (0, 1, 2, 7, 8, 9)])
    for ids, expected in (([5] * 6, 1.0), ([5, 5, 5, 6, 6, 6], 0.0), ([5, 5, -1, -1, 5, 5], 1.0)):
        rows = zip(truth.rows(), ids, strict=True)
        own = Boxes.of_rows([(*row[:6], track) for row, track in rows if track > 0])
        assert found_again([result(truth, own, 10, ["a"], tracks=True)]) == expected


def test_the_threshold_lies_between_right_and_wrong():
    truth = Boxes.of_rows([(t, "a", 0, 0, 10, 10) for t in range(4)])
    own = [(t, "a", 0, 0, 10, 10, -1, 0.9 - 0.1 * t) for t in range(4)] + [(0, "a", 40, 40, 5, 5, -1, 0.2)]
    matches = matches_of(result(truth, Boxes.of_rows(own), 4, ["a"]), 1)
    assert best_threshold([matches]) == pytest.approx(0.4)
    assert np.isnan(best_threshold([matches._replace(right=np.zeros(5, dtype=bool))]))


def test_baselines_find_what_they_should():
    frames, boxes = square(5, 2, 8)
    each = boxed((np.concatenate([0 * frames[:1], frames]), [[], *boxes])).clips[0]
    moving = moving_regions(each, 0)
    assert len(moving[0].scores) == 0
    truth = each.boxes
    assert truth is not None
    assert iou_matrix(moving[2].xywh, truth.of_frame(2).xywh).max() > 0.8
    previous = previous_boxes(each, ("square",))
    assert len(previous[0].scores) == 0
    assert previous[4].xywh.tolist() == truth.of_frame(3).xywh.tolist()


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> ObjectDetector:
    """A detector that has learned to find a square; some clips are black and have none."""
    sizes: dict[str, Any] = {"height": 16, "width": 16, "hidden_size": 8, "conv_channels": 8}
    detector = ObjectDetector(**sizes, epochs=15, lr=0.01, blank_probability=0.2, max_noise=0.1)
    empty = (np.zeros((8, 16, 16), dtype=np.uint8), [[]] * 8)
    return detector.fit([*(square(row, column, 8) for row in range(0, 13, 2) for column in (0, 2, 4)), *[empty] * 5])


def test_a_detector_learns_and_says_so(trained: ObjectDetector):
    evaluation = trained.evaluate([square(row, 3, 8) for row in (2, 6, 10)], disturbed=True)
    first = evaluation.table.iloc[0]
    assert first["model"] == "ConvLSTM"
    assert first["AP.5"] > 0.9
    assert first["IDF1"] > 0.9
    assert {"AP.5, blanked", "AP.5, noise", "AP.5, small", "MOTA"} <= set(evaluation.table)
    assert evaluation.table["model"].tolist()[1:] == ["background subtraction", "true boxes of the frame before"]
    assert evaluation.details["boxes"].tolist() == [24]


def test_the_memory_carries_objects_through_black_frames(trained: ObjectDetector):
    """A frame that is black has the object where it would be; the same weights without memory find nothing there."""
    frames, _ = square(5, 2, 8)
    frames[6] = 0
    (found,) = trained.predict([frames])
    shown = found.boxes.of_frame(6)
    assert len(shown) == 1
    assert np.abs(shown.xywh[0] - [8, 5, 4, 4]).max() < 3  # a small network moves it too slowly
    assert shown.ids.tolist() == found.boxes.of_frame(5).ids.tolist()
    alone = trained.predict([frames[6:7]])[0]
    assert len(alone.boxes) == 0


def test_live_gives_the_answers_of_predict(trained: ObjectDetector):
    frames, _ = square(3, 1, 8)
    (found,) = trained.predict([frames])
    live = trained.live()
    for t, frame in enumerate(frames):
        own, expected = live.step(frame), found.boxes.of_frame(t)
        np.testing.assert_allclose([[d.x, d.y, d.w, d.h] for d in own], expected.xywh, atol=1e-3)
        assert [d.id for d in own] == expected.ids.tolist()
    with pytest.raises(DataError, match="frame 9 has 8 x 8 pixels, those before 16 x 16"):
        live.step(np.zeros((8, 8)))
    with pytest.raises(DataError, match=r"frame 9 has shape \(3,\)"):
        live.step([1, 2, 3])


def test_live_takes_frames_of_any_size_and_answers_in_their_pixels(trained: ObjectDetector):
    live, small = trained.live(), trained.live()
    for frame in square(3, 1, 4)[0]:
        large = live.step(np.repeat(np.repeat(frame, 3, 0), 3, 1))
        own = small.step(frame)
        np.testing.assert_allclose([d.x for d in large], [3 * d.x for d in own], atol=0.1)


def test_answers_are_written_in_every_format(trained: ObjectDetector, tmp_path: Path):
    found = trained.predict([square(5, 2, 8)[0]])
    trained.write(found, tmp_path / "boxes.csv")
    assert (tmp_path / "boxes.csv").read_text().startswith("clip,frame,class,x,y,w,h,id,score\nclip 1,")
    trained.write(found, tmp_path / "boxes.txt")
    assert (tmp_path / "boxes.txt").read_text().startswith(("1,1,", "2,1,"))
    trained.write(found, tmp_path / "boxes.mp4")
    assert read_video(tmp_path / "boxes.mp4", ClipFormat(480, 480, frame_rate=0)).frames.shape == (8, 480, 480, 3)
    trained.write(found * 2, tmp_path / "many.png")
    assert {file.name for file in tmp_path.glob("*.png")} == {"many-1.png", "many-2.png"}
    coco = trained.to_coco(found)
    assert len(coco["annotations"]) == len(found[0].boxes)
    assert json.loads(json.dumps(coco)) == coco
    trained.write_yolo(found, tmp_path / "yolo")
    assert (tmp_path / "yolo/classes.txt").read_text() == "square\n"
    with pytest.raises(UserError, match="the answers are not written as"):
        trained.write(found, tmp_path / "boxes.parquet")


def test_frame_by_frame_has_no_memory():
    """Each frame has the outputs that it has alone, and no state is carried."""
    job = make("object_detector", recurrent=False).fit(CASES["object_detector"].data())
    frames = torch.randint(0, 255, (1, 4, 16, 16, 1), dtype=torch.uint8)
    outputs, state = job.network(frames)
    assert state is None
    for t in range(4):
        torch.testing.assert_close(job.network(frames[:, t : t + 1])[0][:, 0], outputs[:, t])
    assert job.evaluate(CASES["object_detector"].data()).table["model"][0] == "frame by frame"


def test_chunks_give_the_outputs_of_the_whole_clip(trained: ObjectDetector, monkeypatch: pytest.MonkeyPatch):
    frames = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 1), dtype=np.uint8)
    whole = np.stack(list(trained.predictor.outputs(frames)))
    monkeypatch.setattr("lstmkit.jobs.object_detector.predictor._CHUNK", 3)
    np.testing.assert_allclose(np.stack(list(trained.predictor.outputs(frames))), whole, atol=1e-4)


def test_a_clip_of_many_boxes_is_encoded_in_order():
    rows = [[("a", k, k, 2, 2) for k in range(n)] for n in (0, 3, 1, 5)]
    job = make("object_detector").fit([(np.zeros((4, 16, 16)), rows)] * 12)
    (one_clip,) = job.predictor.encode(boxed((np.zeros((4, 16, 16)), rows))).clips
    assert one_clip.targets.shape == (4, 5, 5)
    assert np.isfinite(one_clip.targets[..., 0]).sum(1).tolist() == [0, 3, 1, 5]
    assert one_clip.targets[3, :, 1].tolist() == [1, 2, 3, 4, 5]


# ---- a look inside ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "layers", "peephole"), [(ConvLSTM2d, 2, True), (ConvLSTM2d, 1, False), (ConvRNN2d, 2, False)]
)
def test_one_place_is_an_ordinary_layer(cls: type[ConvLSTM2d], layers: int, peephole: bool):
    """The gates of the ordinary layer are those of the convolutional one at that place, also at the border."""
    torch.manual_seed(0)
    layer = cls(2, 3, layers, peephole=peephole)
    x = torch.randn(1, 6, 2, 4, 3)
    _, state = layer(torch.randn(1, 2, 2, 4, 3))
    expected = layer.trace(x, state)
    for k, place in enumerate(place_layers(layer, x, state)):
        gates = place.layer.trace(place.x, place.state).gates[0, 0]
        row, column = place.place
        for name, gate in gates.items():
            torch.testing.assert_close(gate, expected.gates[k, 0][name][..., row, column], msg=f"{k} {name}")


def test_cells_without_such_a_view_are_refused():
    with pytest.raises(UserError, match="a layer of the class ConvGRU2d cannot be inspected"):
        place_layers(ConvGRU2d(1, 2), torch.zeros(1, 2, 1, 3, 3), None)


def test_the_page_shows_the_memory_over_the_frame(trained: ObjectDetector):
    sections = look.sections(trained.network, trained.example_sequences([square(5, 2, 8)]))
    assert sections[0].title == "Memory over the frame"
    figure = sections[0].figure
    assert figure is not None
    assert len([ax for ax in figure.axes if ax.images]) == 3 * 6  # frames, forget gate and memory of six steps
    assert "One step of the cell" in [section.title for section in sections]


def test_steps_around_a_hidden_object_are_drawn(trained: ObjectDetector):
    frames, boxes = square(5, 0, 12)
    boxes[7] = boxes[8] = []
    (sequence,) = trained.example_sequences([(frames, boxes)])
    assert sequence.drawn_steps == [5, 6, 7, 8, 9, 10]


# ---- recipes ---------------------------------------------------------------------------------------------------------


def test_moving_digits_are_where_their_boxes_are():
    """Boxes lie in the frame, around ink; a digit that is hidden has none, and the nearest one is never hidden."""
    picture = np.zeros((28, 28), dtype=np.uint8)
    picture[4:24, 8:20] = 200
    clips = moving_digits(Digits(np.stack([picture] * 5), np.arange(5)), 20, seed=0)
    assert len(clips) == 20
    again = moving_digits(Digits(np.stack([picture] * 5), np.arange(5)), 20, seed=0)
    assert all(a.rows() == b.rows() for (_, a), (_, b) in zip(clips, again, strict=True))
    hidden = 0
    for clip, boxes in clips:
        assert clip.frames.shape == (40, 80, 80, 1)
        assert boxes.xywh[:, 2:].tolist() == [[12, 20]] * len(boxes)
        assert (boxes.xywh[:, :2] >= 0).all()
        assert (boxes.xywh[:, :2] + boxes.xywh[:, 2:] <= 80).all()
        nearest = boxes.subset(boxes.ids == boxes.ids.max())
        assert nearest.frames.tolist() == list(range(40))
        for frame, (x, y, w, h) in zip(nearest.frames, nearest.xywh.astype(int), strict=True):
            assert (clip.frames[frame, y : y + h, x : x + w] == 200).all()
        count = len(set(boxes.ids.tolist()))
        assert 2 <= count <= 4
        hidden += 40 * count - len(boxes)
    assert hidden > 20
