"""From text to numbers and back. The tokenizers library does the work; the vocabulary is part of the model."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from lstmkit.progress import Progress, Task

KINDS = ("whitespace", "words", "chars", "bpe")
UNKNOWN, END, BEGIN, PAD = "<unk>", "<eos>", "<bos>", "<pad>"
_AT_ONCE = 1000  # lines that are encoded together


class Tokenizer:
    """Tokens of a text, numbered.

    Kinds: ``"spaces"``, what stands between spaces, for text that is cut up already; ``"words"``, words and
    punctuation marks; ``"chars"``; ``"bpe"``, frequent pieces of bytes, which leave nothing unknown.
    Make one with :meth:`fit`, or take one up with ``Tokenizer(kind, text)``.

    Args:
        kind: One of the four.
        content: What :meth:`to_json` gave.

    Raises:
        ValueError: It is not that.
    """

    def __init__(self, kind: str, content: str) -> None:
        self.kind = kind
        try:
            self._engine = Engine.from_str(content)
        except Exception as err:  # the library raises nothing more special
            raise ValueError(f"its vocabulary is none: {err}") from err
        self._numbers: dict[str, int] = self._engine.get_vocab()

    @classmethod
    def fit(
        cls,
        lines: Iterable[str],
        kind: str,
        *,
        size: int = 0,
        at_least: int = 1,
        lower: bool = False,
        special: Sequence[str] = (),
        progress: Progress | None = None,
        count: int = 0,
    ) -> Tokenizer:
        """The tokens of a text: most frequent first, after the special ones.

        Args:
            lines: The text.
            kind: See the class.
            size: Most tokens that are kept, special ones included; 0 for all (of bpe 8,000).
            at_least: How often a token must occur.
            lower: Whether to write all in lower case.
            special: Tokens that are always there, first; ``<unk>`` is put before them where words may be unknown.
            progress: Whom to tell.
            count: How many lines there are, for that.
        """
        special = [*([] if kind == "bpe" or UNKNOWN in special else [UNKNOWN]), *special]
        engine = Engine(models.BPE() if kind == "bpe" else models.WordLevel(unk_token=UNKNOWN))
        if lower:
            engine.normalizer = normalizers.Lowercase()
        engine.pre_tokenizer, engine.decoder = _pre_tokenizer(kind)
        options = {"min_frequency": at_least, "special_tokens": special, "show_progress": False}
        if kind == "bpe":
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(vocab_size=size or 8000, initial_alphabet=alphabet, **options)
        else:
            trainer = trainers.WordLevelTrainer(vocab_size=size or 2**31 - 1, **options)
        with (progress or Progress()).task("collecting the vocabulary", count) as task:
            engine.train_from_iterator(_told(lines, "\n" if kind in ("chars", "bpe") else "", task), trainer)
        if kind != "bpe":  # a special token that stands in the text as well has left a gap
            kept = sorted(engine.get_vocab(), key=engine.get_vocab().__getitem__)
            engine.model = models.WordLevel({token: i for i, token in enumerate(kept)}, UNKNOWN)
        return cls(kind, engine.to_str())

    def to_json(self) -> str:
        """All of it, as text."""
        return json.dumps(json.loads(self._engine.to_str()), ensure_ascii=False, sort_keys=True)

    def __len__(self) -> int:
        return len(self._numbers)

    def known(self) -> list[str]:
        """All tokens, by their numbers."""
        return sorted(self._numbers, key=self._numbers.__getitem__)

    def __getitem__(self, token: str) -> int:
        """The number of a token that is there."""
        return self._numbers[token]

    def number(self, token: str) -> int:
        """The number of a token, -1 for one that is not there."""
        return self._numbers.get(token, -1)

    def __contains__(self, token: str) -> bool:
        return token in self._numbers

    @property
    def keeps_line_ends(self) -> bool:
        """Whether the end of a line is a token of the text's own; else ``<eos>`` stands for it, if it is special."""
        return self.kind in ("chars", "bpe")

    def encode(self, lines: Iterable[str], *, ended: bool = False) -> Iterator[list[int]]:
        """The tokens of each line, one after the other; ``ended``: with the line's end."""
        end = [] if self.keeps_line_ends or not ended else [self._numbers[END]]
        some = iter(lines)
        while batch := list(itertools.islice(some, _AT_ONCE)):
            if ended and self.keeps_line_ends:
                batch = [line + "\n" for line in batch]
            for encoding in self._engine.encode_batch_fast(batch, add_special_tokens=False):
                yield encoding.ids + end

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """How each token is written; of bpe as far as its bytes are whole characters."""
        if self.kind == "bpe":
            return [self._engine.decode([i], skip_special_tokens=False) for i in ids]
        return [self._engine.id_to_token(i) or "" for i in ids]

    def pieces(self, text: str) -> list[str]:
        """What of the text each of its tokens stands for, unknown ones too."""
        return [text[start:end] for start, end in self.spans(text)]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """From where to where that stands in it, in characters, the end excluded."""
        return self._engine.encode(text, add_special_tokens=False).offsets

    def spelled(self, lines: Iterable[str]) -> Iterator[tuple[list[int], list[str]]]:
        """The tokens of each line, as :meth:`encode` has them, and what of it each stands for, as :meth:`pieces`."""
        some = iter(lines)
        while batch := list(itertools.islice(some, _AT_ONCE)):
            for line, encoding in zip(batch, self._engine.encode_batch(batch, add_special_tokens=False), strict=True):
                yield encoding.ids, [line[start:end] for start, end in encoding.offsets]

    def normal(self, word: str) -> str:
        """A word as the vocabulary would have it: in lower case, if all is."""
        normalizer = self._engine.normalizer
        return normalizer.normalize_str(word) if normalizer else word

    def unknown(self, text: str) -> list[str]:
        """What of a text is not in the vocabulary, each once."""
        normal = self._engine.normalizer
        pieces = self._engine.pre_tokenizer.pre_tokenize_str(normal.normalize_str(text) if normal else text)  # type: ignore[union-attr]
        return list(dict.fromkeys(piece for piece, _ in pieces if piece not in self._numbers))

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the tokens make."""
        if self.kind == "chars":
            return "".join(self.tokens(ids))
        return self._engine.decode(list(ids), skip_special_tokens=False)


_NO_SPACE_BEFORE = re.compile(r" ([.,;:!?%)\]}…])")
_NO_SPACE_AFTER = re.compile(r"([(\[{]) ")
_NO_SPACE_AROUND = re.compile(r"(?<=\w) ([-'’/]) (?=\w)")


def joined(words: Sequence[str]) -> str:
    """Words and punctuation marks as one writes them: the spaces that stand between tokens only are left out.

    >>> joined(["a", "man", "'", "s", "t", "-", "shirt", "(", "red", ")", "."])
    "a man's t-shirt (red)."
    """
    text = _NO_SPACE_AROUND.sub(r"\1", " ".join(words))
    return _NO_SPACE_AFTER.sub(r"\1", _NO_SPACE_BEFORE.sub(r"\1", text))


def _pre_tokenizer(kind: str) -> tuple[Any, Any]:
    """What cuts a text into tokens, and what joins them again if it takes more than spaces."""
    if kind == "chars":
        return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"), None
    if kind == "bpe":
        return pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return (pre_tokenizers.Whitespace() if kind == "words" else pre_tokenizers.WhitespaceSplit()), None


def _told(lines: Iterable[str], end: str, task: Task) -> Iterator[str]:
    for done, line in enumerate(lines):
        if done % _AT_ONCE == 0:
            task.update(done)
        yield line + end
