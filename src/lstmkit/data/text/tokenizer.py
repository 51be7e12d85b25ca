"""Tokenizers by whitespace, words, characters or BPE, on top of the ``tokenizers`` library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from lstmkit.progress import Progress, Task

KINDS = ("whitespace", "words", "chars", "bpe")
UNKNOWN, END, BEGIN, PAD = "<unk>", "<eos>", "<bos>", "<pad>"
_LINES_PER_CHUNK, _CHARACTERS_PER_CHUNK = 1000, 1_000_000  # that are tokenized at once


class Tokenizer:
    """Tokenizer with a vocabulary.

    Kinds: ``"whitespace"``, whitespace-separated tokens, for text that is already tokenized; ``"words"``, words and
    punctuation marks; ``"chars"``, characters; ``"bpe"``, byte-level BPE subword units without unknown tokens.
    Create one with :meth:`fit`, or restore one from :meth:`to_json` with ``Tokenizer(kind, content)``.

    Args:
        kind: One of the four kinds.
        content: Output of :meth:`to_json`.

    Raises:
        ValueError: ``content`` is not a vocabulary.

    >>> tokenizer = Tokenizer.fit(["a dog sees a cat"], "words")
    >>> next(tokenizer.encode(["a bird"]))
    [1, 0]
    """

    def __init__(self, kind: str, content: str) -> None:
        self.kind = kind
        try:
            self._engine = Engine.from_str(content)
        except Exception as err:  # the library raises no specific class
            raise ValueError(f"its vocabulary is invalid: {err}") from err
        self._ids: dict[str, int] = self._engine.get_vocab()

    @classmethod
    def fit(
        cls,
        lines: Iterable[str],
        kind: str,
        *,
        vocab_size: int = 0,
        min_count: int = 1,
        lowercase: bool = False,
        special_tokens: Sequence[str] = (),
        progress: Progress | None = None,
        num_lines: int = 0,
    ) -> Tokenizer:
        """Fit a vocabulary: special tokens first, then by descending frequency.

        Args:
            lines: The text.
            kind: See the class.
            vocab_size: Maximum vocabulary size, special tokens included; 0 for all tokens (8,000 for BPE).
            min_count: Minimum count of a token.
            lowercase: Whether to convert text to lower case.
            special_tokens: Special tokens. ``<unk>`` is put before them, except for BPE.
            progress: Progress display.
            num_lines: Number of lines, for the progress display.
        """
        special_tokens = [*([] if kind == "bpe" or UNKNOWN in special_tokens else [UNKNOWN]), *special_tokens]
        engine = Engine(models.BPE() if kind == "bpe" else models.WordLevel(unk_token=UNKNOWN))
        if lowercase:
            engine.normalizer = normalizers.Lowercase()
        engine.pre_tokenizer, engine.decoder = _pre_tokenizer(kind)
        options = {"min_frequency": min_count, "special_tokens": special_tokens, "show_progress": False}
        if kind == "bpe":
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(vocab_size=vocab_size or 8000, initial_alphabet=alphabet, **options)
        else:
            trainer = trainers.WordLevelTrainer(vocab_size=vocab_size or 2**31 - 1, **options)
        with (progress or Progress()).task("building the vocabulary", num_lines) as task:
            engine.train_from_iterator(_with_progress(lines, "\n" if kind in ("chars", "bpe") else "", task), trainer)
        if kind != "bpe":  # a special token that also occurs in the text leaves a gap in the ids
            kept = sorted(engine.get_vocab(), key=engine.get_vocab().__getitem__)
            engine.model = models.WordLevel({token: i for i, token in enumerate(kept)}, UNKNOWN)
        return cls(kind, engine.to_str())

    def to_json(self) -> str:
        """The tokenizer as JSON text."""
        return json.dumps(json.loads(self._engine.to_str()), ensure_ascii=False, sort_keys=True)

    def __len__(self) -> int:
        return len(self._ids)

    def vocabulary(self) -> list[str]:
        """All tokens, sorted by id."""
        return sorted(self._ids, key=self._ids.__getitem__)

    def __getitem__(self, token: str) -> int:
        """Id of a token; KeyError if it is not in the vocabulary."""
        return self._ids[token]

    def token_to_id(self, token: str) -> int:
        """Id of a token, -1 if it is not in the vocabulary."""
        return self._ids.get(token, -1)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    @property
    def keeps_line_ends(self) -> bool:
        """Whether a line break is a token of the text; other kinds mark the end of a line with ``<eos>``."""
        return self.kind in ("chars", "bpe")

    def encode(self, lines: Iterable[str], *, add_line_end: bool = False) -> Iterator[list[int]]:
        """Encode lines as lists of ids. ``add_line_end``: add the line break, or ``<eos>``."""
        end = [] if self.keeps_line_ends or not add_line_end else [self._ids[END]]
        for batch in _chunks(lines):
            if add_line_end and self.keeps_line_ends:
                batch = [line + "\n" for line in batch]
            for encoding in self._engine.encode_batch_fast(batch, add_special_tokens=False):
                yield encoding.ids + end

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Tokens of ids as text. A BPE token with incomplete UTF-8 characters is shown as far as possible."""
        if self.kind == "bpe":
            return [self._engine.decode([i], skip_special_tokens=False) for i in ids]
        return [self._engine.id_to_token(i) or "" for i in ids]

    def tokenize(self, text: str) -> list[str]:
        """Tokenize a text into its substrings, out-of-vocabulary words included."""
        return [text[start:end] for start, end in self.spans(text)]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Character offsets ``(start, stop)`` of each token of a text."""
        return self._engine.encode(text, add_special_tokens=False).offsets

    def encode_with_tokens(self, lines: Iterable[str]) -> Iterator[tuple[list[int], list[str]]]:
        """For each line its ids, as :meth:`encode`, and the substrings of its tokens, as :meth:`tokenize`."""
        for batch in _chunks(lines):
            for line, encoding in zip(batch, self._engine.encode_batch(batch, add_special_tokens=False), strict=True):
                yield encoding.ids, [line[start:end] for start, end in encoding.offsets]

    def normalize(self, word: str) -> str:
        """Normalize a word as the vocabulary does: to lower case, if that is set."""
        normalizer = self._engine.normalizer
        return normalizer.normalize_str(word) if normalizer else word

    def out_of_vocabulary(self, text: str) -> list[str]:
        """Out-of-vocabulary tokens of a text, without duplicates."""
        normalizer = self._engine.normalizer
        pieces = self._engine.pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text) if normalizer else text)  # type: ignore[union-attr]
        return list(dict.fromkeys(piece for piece, _ in pieces if piece not in self._ids))

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text."""
        if self.kind == "chars":
            return "".join(self.tokens(ids))
        return self._engine.decode(list(ids), skip_special_tokens=False)


_NO_SPACE_BEFORE = re.compile(r" ([.,;:!?%)\]}…])")
_NO_SPACE_AFTER = re.compile(r"([(\[{]) ")
_NO_SPACE_AROUND = re.compile(r"(?<=\w) ([-'’/]) (?=\w)")


def detokenize(words: Sequence[str]) -> str:
    """Join words and punctuation marks to text, without spaces around punctuation where English has none.

    >>> detokenize(["a", "man", "'", "s", "t", "-", "shirt", "(", "red", ")", "."])
    "a man's t-shirt (red)."
    """
    text = _NO_SPACE_AROUND.sub(r"\1", " ".join(words))
    return _NO_SPACE_AFTER.sub(r"\1", _NO_SPACE_BEFORE.sub(r"\1", text))


def _pre_tokenizer(kind: str) -> tuple[Any, Any]:
    """Pre-tokenizer and decoder of a kind; ``None`` if tokens are joined by spaces."""
    if kind == "chars":
        return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"), None
    if kind == "bpe":
        return pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return (pre_tokenizers.Whitespace() if kind == "words" else pre_tokenizers.WhitespaceSplit()), None


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Consecutive lines in chunks of a limited number of lines and characters; a chunk has at least one line."""
    chunk: list[str] = []
    length = 0
    for line in lines:
        chunk.append(line)
        length += len(line)
        if len(chunk) == _LINES_PER_CHUNK or length >= _CHARACTERS_PER_CHUNK:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def _with_progress(lines: Iterable[str], end: str, task: Task) -> Iterator[str]:
    for done, line in enumerate(lines):
        if done % _LINES_PER_CHUNK == 0:
            task.update(done)
        yield line + end
