"""Encoders: a batch's inputs ``(B, T, F)`` or ids to the inputs of the recurrent trunk ``(B, S, output_size)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.layers.rnn import LSTM
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.renamed_weights import RenamedWeights


class PatchEncoder(nn.Module):
    """Patching: ``patch`` consecutive steps become one, followed by a linear layer.

    Args:
        input_size: Features per step, ``F``.
        patch: Steps per patch; ``T`` must be a multiple of it.
        output_size: Width of the output.
        dropout: Dropout probability on the output.

    >>> PatchEncoder(2, patch=24, output_size=8)(torch.zeros(1, 48, 2)).shape
    torch.Size([1, 2, 8])
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
    """The pre-net of Tacotron (Wang et al. 2017): two ReLU layers with dropout, separately at each step.

    Dropout prevents the decoder from copying the previous frame.

    Args:
        input_size: Features per frame, ``F``.
        output_size: Width of both layers.
        dropout: Dropout probability on the units.
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
    """Token embeddings.

    Args:
        vocab_size: Number of tokens.
        output_size: Size of an embedding.
        word_dropout: Dropout probability on token embeddings: a dropped token is 0 in the whole batch (Gal and
            Ghahramani 2016).
        dropout: Dropout probability on the output's features, with one mask for all steps.
        padding: Id of the padding token, whose embedding is 0; ``None`` for none.
        unknown: Id whose embedding is used for out-of-vocabulary ids (``vocab_size`` and above); ``None`` if there are
            none.
        init_std: Embeddings are initialized uniformly in ``-spread`` to ``init_std``.

    >>> TokenEncoder(100, 8)(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        vocab_size: int,
        output_size: int,
        word_dropout: float = 0.0,
        dropout: float = 0.0,
        padding: int | None = None,
        unknown: int | None = None,
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        self.output_size, self.word_dropout, self.dropout = output_size, word_dropout, dropout
        self.unknown = unknown
        self.embedding = nn.Embedding(vocab_size, output_size, padding_idx=padding)
        nn.init.uniform_(self.embedding.weight, -init_std, init_std)
        if padding is not None:
            nn.init.zeros_(self.embedding.weight[padding])

    def forward(self, ids: Tensor) -> Tensor:
        """``(B, T) -> (B, T, output_size)``."""
        if self.unknown is not None:
            ids = ids.masked_fill(ids >= self.embedding.num_embeddings, self.unknown)
        vectors = self.embedding(ids)
        if self.training and self.word_dropout:
            mask = F.dropout(vectors.new_ones(self.embedding.num_embeddings), self.word_dropout)
            vectors = vectors * mask[ids].unsqueeze(-1)
        return variational_dropout(vectors, self.dropout, self.training)


class WordEncoder(RenamedWeights):
    """Word embeddings combined with a character-level bidirectional LSTM.

    Lample et al. 2016, "Neural Architectures for Named Entity Recognition", section 4.1. The characters represent words
    that are not in the vocabulary.

    Args:
        vocab_size: Number of words.
        num_characters: Number of characters; id 0 is padding.
        embedding_size: Size of a word embedding.
        char_feature_size: Size of the character-level representation, a multiple of 2; 0 to use no characters.
        dropout: Dropout probability on the output's features, with one mask for all steps.
    """

    old_names: ClassVar = {"letters": "characters", "spelling": "character_lstm"}  # in version 0.1

    excluded_from_inspection = True  # inspection shows the layer that reads the sentence, not that of a word's letters

    def __init__(
        self, vocab_size: int, num_characters: int, embedding_size: int, char_feature_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.words = TokenEncoder(vocab_size, embedding_size)
        self.characters, self.character_lstm = None, None
        if char_feature_size:
            self.characters = TokenEncoder(num_characters, char_feature_size, padding=0)
            self.character_lstm = LSTM(char_feature_size, char_feature_size // 2, batch_first=True, bidirectional=True)
        self.output_size, self.dropout = embedding_size + char_feature_size, dropout

    def forward(self, inputs: Tensor) -> Tensor:
        """Word id and character ids ``(B, T, 1 + C)`` to ``(B, T, output_size)``."""
        vectors = self.words(inputs[..., 0])
        if self.characters is not None and self.character_lstm is not None:
            character_ids = inputs[..., 1:].flatten(0, 1)
            _, (last, _) = self.character_lstm(self.characters(character_ids), lengths=(character_ids > 0).sum(1))
            vectors = torch.cat([vectors, last.transpose(0, 1).flatten(1).unflatten(0, inputs.shape[:2])], -1)
        return variational_dropout(vectors, self.dropout, self.training)


class ResidueEncoder(nn.Module):
    """Residue embeddings and profiles, concatenated with multi-scale convolutions over them.

    After Li and Yu 2016, "Protein Secondary Structure Prediction Using Cascaded Convolutional and Recurrent Neural
    Networks". Inputs past a chain's end are 0, so that padding does not change the output.

    Args:
        num_residue_ids: Number of residue types; id 0 is padding.
        embedding_size: Size of a residue embedding.
        profile: Number of profile values per residue.
        kernel_sizes: Kernel sizes of the convolutions in residues, odd numbers.
        conv_channels: Channels of each convolution.
        dropout: Dropout probability on the output's features, with one mask for all residues.
    """

    def __init__(
        self,
        num_residue_ids: int,
        embedding_size: int,
        profile: int,
        kernel_sizes: Sequence[int],
        conv_channels: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.residues = TokenEncoder(num_residue_ids, embedding_size, padding=0)
        size = embedding_size + profile
        self.around = nn.ModuleList(nn.Conv1d(size, conv_channels, width, padding=width // 2) for width in kernel_sizes)
        self.output_size, self.dropout = size + conv_channels * len(kernel_sizes), dropout

    def forward(self, inputs: Tensor) -> Tensor:
        """Ids ``(B, T)``, or with a profile ``(B, T, 1 + F)``, to ``(B, T, output_size)``."""
        residues = self.residues(inputs) if inputs.dim() == 2 else self._with_profile(inputs)
        windows = [F.relu(conv(residues.transpose(1, 2))).transpose(1, 2) for conv in self.around]
        return variational_dropout(torch.cat([residues, *windows], -1), self.dropout, self.training)

    def _with_profile(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.residues(inputs[..., 0].long()), inputs[..., 1:]], -1)


class StoryEncoder(nn.Module):
    """Sentence vectors of a question and a story, with the interaction of each sentence with the question.

    A sentence vector ``s`` is the final state of a bidirectional LSTM over its words. With the question vector ``q`` a
    step is ``[s, s ∘ q, |s - q|]``, after Xiong, Merity, Socher 2016, "Dynamic Memory Networks for Visual and Textual
    Question Answering".

    Args:
        vocab_size: Number of words; id 0 is padding.
        embedding_size: Size of a word embedding.
        sentence_size: Size of a sentence vector, a multiple of 2.
        dropout: Dropout probability on the word embeddings' features, with one mask for all words.
    """

    excluded_from_inspection = True  # inspection shows the layer that reads the story, not that of a sentence's words

    def __init__(self, vocab_size: int, embedding_size: int, sentence_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size = 3 * sentence_size
        self.words = TokenEncoder(vocab_size, embedding_size, dropout=dropout, padding=0)
        self.reader = LSTM(embedding_size, sentence_size // 2, batch_first=True, bidirectional=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Word ids ``(B, N, W)``, padded with 0, the question first, to ``(B, N, output_size)``."""
        sentences = inputs.flatten(0, 1)
        if torch.compiler.is_exporting():  # the number of distinct sentences is not known
            vectors = self._sentence_vectors(sentences)
        else:  # Sentences repeat across stories, and padding repeats too: each distinct one is read once.
            sentences, indices = torch.unique(sentences, dim=0, return_inverse=True)
            vectors = self._sentence_vectors(sentences)[indices]
        steps = vectors.unflatten(0, inputs.shape[:2])
        question = steps[:, :1]
        return torch.cat([steps, steps * question, (steps - question).abs()], -1)

    def _sentence_vectors(self, sentences: Tensor) -> Tensor:
        """``(M, W)`` word ids to ``(M, sentence_size)``."""
        _, (last, _) = self.reader(self.words(sentences), lengths=(sentences > 0).sum(1))
        return last.transpose(0, 1).flatten(1)


class QuestionPassageEncoder(nn.Module):
    """Question and passage as one sequence: word embedding, exact match and aligned question embedding of each word.

    Chen, Fisch, Weston, Bordes 2017, "Reading Wikipedia to Answer Open-Domain Questions", section 3.2.

    Args:
        vocab_size: Number of words; id 0 is padding.
        embedding_size: Size of a word embedding.
        dropout: Dropout probability on the output's features, with one mask for all words.
    """

    def __init__(self, vocab_size: int, embedding_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size, self.dropout = 2 * embedding_size + 2, dropout
        self.words = TokenEncoder(vocab_size, embedding_size, padding=0)
        self.compare = nn.Linear(embedding_size, embedding_size)

    def forward(self, inputs: Tensor) -> Tensor:
        """Word id, passage flag and exact-match flag ``(B, T, 3)`` to ``(B, T, output_size)``."""
        vectors = self.words(inputs[..., 0])
        in_question = (inputs[..., 0] > 0) & (inputs[..., 1] == 0)
        projected = F.relu(self.compare(vectors))
        scores = projected @ projected.transpose(1, 2)
        scores = scores.masked_fill(~in_question.unsqueeze(1), torch.finfo(vectors.dtype).min)
        aligned = scores.softmax(-1) @ vectors
        features = torch.cat([vectors, aligned, inputs[..., 1:].to(vectors.dtype)], -1)
        return variational_dropout(features, self.dropout, self.training)
