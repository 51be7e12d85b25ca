"""From a batch's inputs to what the recurrent trunk reads: ``(B, T, F)`` or ids to ``(B, S, output_size)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.layers.rnn import LSTM
from lstmkit.modules.dropout import variational_dropout


class PatchEncoder(nn.Module):
    """Fold ``patch`` consecutive steps into one and map it linearly: a day of hours becomes one step of the trunk.

    Args:
        input_size: Features a step, ``F``.
        patch: Steps folded together; ``T`` must be a multiple of it. 1 leaves the steps as they are.
        output_size: Width of a folded step.
        dropout: In training, the share of the output's values dropped.
    """

    def __init__(self, input_size: int, patch: int, output_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.patch, self.output_size = patch, output_size
        self.linear = nn.Linear(input_size * patch, output_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F) -> (B, T / patch, output_size)``."""
        return self.dropout(self.linear(x.unflatten(1, (-1, self.patch)).flatten(2)))


class PreNet(nn.Module):
    """Frames through two layers of rectified units, half of which are hidden in training (Wang et al. 2017, Tacotron).

    What is hidden differs from step to step: a decoder that is told the frames before must not live on copying them.

    Args:
        input_size: Features a frame, ``F``.
        output_size: Width of either layer.
        dropout: In training, the share of the units that are hidden.
    """

    def __init__(self, input_size: int, output_size: int, dropout: float) -> None:
        super().__init__()
        self.output_size, self.dropout = output_size, dropout
        self.first, self.second = nn.Linear(input_size, output_size), nn.Linear(output_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F) -> (B, T, output_size)``."""
        for layer in (self.first, self.second):
            x = F.dropout(F.relu(layer(x)), self.dropout, self.training)
        return x


class TokenEncoder(nn.Module):
    """A vector for each token.

    Args:
        vocabulary: How many different tokens there are.
        output_size: Width of a vector.
        word_dropout: In training, the share of the vocabulary whose vectors are 0 in a batch (Gal and Ghahramani 2016).
        dropout: In training, the share of the output's features that are hidden, the same at all steps.
        padding: The token whose vector is 0; ``None`` for none.
        unknown: The token whose vector ids from ``vocabulary`` on have: words that one text has and the vocabulary has
            not; ``None`` where there are none.
        spread: Of the weights at first, evenly to both sides of 0.
    """

    def __init__(
        self,
        vocabulary: int,
        output_size: int,
        word_dropout: float = 0.0,
        dropout: float = 0.0,
        padding: int | None = None,
        unknown: int | None = None,
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        self.output_size, self.word_dropout, self.dropout = output_size, word_dropout, dropout
        self.unknown = unknown
        self.embedding = nn.Embedding(vocabulary, output_size, padding_idx=padding)
        nn.init.uniform_(self.embedding.weight, -spread, spread)
        if padding is not None:
            nn.init.zeros_(self.embedding.weight[padding])

    def forward(self, ids: Tensor) -> Tensor:
        """``(B, T) -> (B, T, output_size)``."""
        if self.unknown is not None:
            ids = ids.masked_fill(ids >= self.embedding.num_embeddings, self.unknown)
        vectors = self.embedding(ids)
        if self.training and self.word_dropout:
            kept = F.dropout(vectors.new_ones(self.embedding.num_embeddings), self.word_dropout)
            vectors = vectors * kept[ids].unsqueeze(-1)
        return variational_dropout(vectors, self.dropout, self.training)


class WordEncoder(nn.Module):
    """A vector for each word: its own, and one that its letters spell, read both ways by a small LSTM.

    Lample et al. 2016, "Neural Architectures for Named Entity Recognition", section 4.1: a word that was never seen
    still has its letters.

    Args:
        vocabulary: How many words.
        letters: How many letters; 0 is none.
        word_size: Width of a word's own vector.
        letter_size: Width of what its letters spell, a multiple of 2; 0 to leave the letters out.
        dropout: In training, the share of the output's features that are hidden, the same at all steps.
    """

    reads_aside = True  # whoever looks inside a model wants what reads the sentence, not what reads each word's letters

    def __init__(self, vocabulary: int, letters: int, word_size: int, letter_size: int, dropout: float) -> None:
        super().__init__()
        self.words = TokenEncoder(vocabulary, word_size)
        self.letters, self.spelling = None, None
        if letter_size:
            self.letters = TokenEncoder(letters, letter_size, padding=0)
            self.spelling = LSTM(letter_size, letter_size // 2, batch_first=True, bidirectional=True)
        self.output_size, self.dropout = word_size + letter_size, dropout

    def forward(self, inputs: Tensor) -> Tensor:
        """``(B, T, 1 + C)``, the word's number and its letters', to ``(B, T, output_size)``."""
        vectors = self.words(inputs[..., 0])
        if self.letters is not None and self.spelling is not None:
            letters = inputs[..., 1:].flatten(0, 1)
            _, (last, _) = self.spelling(self.letters(letters), lengths=(letters > 0).sum(1))
            vectors = torch.cat([vectors, last.transpose(0, 1).flatten(1).unflatten(0, inputs.shape[:2])], -1)
        return variational_dropout(vectors, self.dropout, self.training)


class ResidueEncoder(nn.Module):
    """A residue's vector and profile, and beside them what convolutions of several widths see around it.

    After Li and Yu 2016, "Protein Secondary Structure Prediction Using Cascaded Convolutional and Recurrent Neural
    Networks". What stands past a chain's end is 0, as it is past the end of the longest: padding changes nothing.

    Args:
        letters: How many different residues; 0 is none.
        vector_size: Width of a residue's vector.
        profile: Numbers of each residue beside its letter.
        widths: Residues that each convolution sees, odd numbers.
        channels: Of each convolution.
        dropout: In training, the share of the output's features that are hidden, the same at all residues.
    """

    def __init__(
        self, letters: int, vector_size: int, profile: int, widths: Sequence[int], channels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.residues = TokenEncoder(letters, vector_size, padding=0)
        size = vector_size + profile
        self.around = nn.ModuleList(nn.Conv1d(size, channels, width, padding=width // 2) for width in widths)
        self.output_size, self.dropout = size + channels * len(widths), dropout

    def forward(self, inputs: Tensor) -> Tensor:
        """Ids ``(B, T)``, or with a profile ``(B, T, 1 + F)``, to ``(B, T, output_size)``."""
        own = self.residues(inputs) if inputs.dim() == 2 else self._with_profile(inputs)
        seen = [F.relu(around(own.transpose(1, 2))).transpose(1, 2) for around in self.around]
        return variational_dropout(torch.cat([own, *seen], -1), self.dropout, self.training)

    def _with_profile(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.residues(inputs[..., 0].long()), inputs[..., 1:]], -1)


class StoryEncoder(nn.Module):
    """A question and the sentences of a story, each a vector, and how it compares with the question's.

    A sentence's vector ``s`` is the last states of a small LSTM that reads its words both ways. With the question's,
    ``q``, each step is ``[s, s ∘ q, |s - q|]``, as the facts of Xiong, Merity, Socher 2016, "Dynamic Memory Networks
    for Visual and Textual Question Answering", are compared with a question: what reads the story knows what for.

    Args:
        vocabulary: How many words; 0 is none.
        word_size: Width of a word's vector.
        sentence_size: Width of a sentence's, a multiple of 2.
        dropout: In training, the share of a word's features that are hidden, the same at all words.
    """

    reads_aside = True  # whoever looks inside a model wants what reads the story, not what reads each sentence's words

    def __init__(self, vocabulary: int, word_size: int, sentence_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size = 3 * sentence_size
        self.words = TokenEncoder(vocabulary, word_size, dropout=dropout, padding=0)
        self.reader = LSTM(word_size, sentence_size // 2, batch_first=True, bidirectional=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(B, N, W)`` words by number, filled up with 0, the question first, to ``(B, N, output_size)``."""
        # Stories repeat their sentences, and padding is one more: each is read once.
        sentences, which = torch.unique(inputs.flatten(0, 1), dim=0, return_inverse=True)
        _, (last, _) = self.reader(self.words(sentences), lengths=(sentences > 0).sum(1))
        steps = last.transpose(0, 1).flatten(1)[which].unflatten(0, inputs.shape[:2])
        question = steps[:, :1]
        return torch.cat([steps, steps * question, (steps - question).abs()], -1)


class QuestionPassageEncoder(nn.Module):
    """A question and the passage that answers it, as one sequence: of each word its vector, whether the question has
    that word as well, and which of the question's words it is like.

    Chen, Fisch, Weston, Bordes 2017, "Reading Wikipedia to Answer Open-Domain Questions", section 3.2: exact match and
    aligned question embedding.

    Args:
        vocabulary: How many words; 0 is none.
        word_size: Width of a word's vector.
        dropout: In training, the share of the output's features that are hidden, the same at all words.
    """

    def __init__(self, vocabulary: int, word_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size, self.dropout = 2 * word_size + 2, dropout
        self.words = TokenEncoder(vocabulary, word_size, padding=0)
        self.compare = nn.Linear(word_size, word_size)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(B, T, 3)``, word, whether it is the passage's and whether it matches, to ``(B, T, output_size)``."""
        vectors = self.words(inputs[..., 0])
        asks = (inputs[..., 0] > 0) & (inputs[..., 1] == 0)
        compared = F.relu(self.compare(vectors))
        scores = (compared @ compared.transpose(1, 2)).masked_fill(~asks.unsqueeze(1), torch.finfo(vectors.dtype).min)
        like = scores.softmax(-1) @ vectors
        found = torch.cat([vectors, like, inputs[..., 1:].to(vectors.dtype)], -1)
        return variational_dropout(found, self.dropout, self.training)
