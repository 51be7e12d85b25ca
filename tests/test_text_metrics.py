"""Metrics of texts fit the script of the references: equal texts score full marks in every language."""

from __future__ import annotations

import numpy as np
import pytest

from lstmkit.evaluation.text_metrics import bleu_tokenizer, is_ascii_text, words
from lstmkit.jobs.captioner import metrics as captions
from lstmkit.jobs.question_answerer.metrics import token_f1
from lstmkit.jobs.summarizer import metrics as summaries
from lstmkit.jobs.translator import metrics as translations

SENTENCES = {
    "English": "A red dog runs fast today",
    "German": "Ein größerer Hund läuft über Öl",
    "Russian": "Красная собака быстро бежит домой сегодня",
    "Greek": "Ένα κόκκινο σκυλί τρέχει γρήγορα σήμερα",
    "Hindi": "एक लाल कुत्ता तेज़ दौड़ता है",
    "Arabic": "كلب أحمر يركض بسرعة كبيرة اليوم",
    "Korean": "빨간 개가 오늘 아주 빨리 달린다",
    "Chinese": "一只红色的狗今天跑得很快",
    "Japanese": "赤い犬が今日はとても速く走る",
    "Thai": "สุนัขสีแดงวิ่งเร็วมาก",
}
every_language = pytest.mark.parametrize("text", SENTENCES.values(), ids=SENTENCES)


@every_language
def test_equal_texts_score_full_marks(text: str):
    """ROUGE, BLEU, chrF and F1 of a text with itself are their maximum."""
    assert set(summaries.scores([text], [text]).values()) == {100.0}
    assert set(translations.scores([text], [text]).values()) == {100.0}
    assert captions.scores([text], [[text]]) == {
        "exact match": 1.0, "BLEU-1": 100.0, "BLEU-2": 100.0, "BLEU-3": 100.0, "BLEU-4": 100.0,
    }  # fmt: skip
    assert token_f1(text, text) == 1.0


@every_language
def test_half_of_a_text_scores_in_between(text: str):
    """Half of a text is neither right nor wrong, also if there are no spaces in it."""
    half = text[: len(text) // 2]
    assert 20 < summaries.scores([half], [text])["ROUGE-1"] < 90
    assert 0.2 < token_f1(half, text) < 0.9
    assert 0 < translations.scores([half], [text])["chrF"] < 90


def test_other_texts_score_nothing():
    """No word in common gives zero."""
    assert summaries.scores([SENTENCES["Russian"]], [SENTENCES["Greek"]])["ROUGE-1"] == 0.0
    assert token_f1(SENTENCES["Chinese"], SENTENCES["Thai"]) == 0.0


def test_english_is_scored_as_published():
    """English keeps rouge-score's own tokens and stemmer, and a few foreign words do not change that."""
    english = ["the red dogs ran home"] * 300
    assert is_ascii_text([*english, "a café"])
    assert not is_ascii_text(["Hunde laufen über Öl"])
    assert summaries.scores(["the red dogs"], ["a red dog"])["ROUGE-1"] == 66.67  # stemmed: 2 of 3 words
    assert "Porter stemmer" in summaries.signature(english)
    assert "without stemming" in summaries.signature([SENTENCES["Russian"]])


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("English", "13a"),
        ("Russian", "13a"),
        ("Korean", "13a"),
        ("Chinese", "zh"),
        ("Japanese", "char"),
        ("Thai", "char"),
    ],
)
def test_bleu_names_its_tokenizer(language: str, tokenizer: str):
    """BLEU takes sacreBLEU's tokenizer for the script, and the signature says which."""
    text = SENTENCES[language]
    assert bleu_tokenizer([text]) == tokenizer
    assert f"tok:{tokenizer}" in translations.signatures([text])[0]
    assert f"tok:{tokenizer}" in captions.signature([[text]])


def test_words_of_mixed_scripts():
    """Marks stay with their letters; digits and foreign words inside Chinese are words."""
    assert words("Übung, 3 दुनिया!") == ["übung", "3", "दुनिया"]
    assert words("我有3个iPhone。") == ["我", "有", "3", "个", "iphone"]


def test_bleu_of_texts_without_its_ngrams_is_unknown():
    """A copy of three words has no 4-gram: its BLEU is no 0, which would be worse than that of babble."""
    copies = ["a red dog", "two cats"]
    captioned = captions.scores(copies, [[text] for text in copies])
    assert [captioned[f"BLEU-{n}"] for n in (1, 2, 3)] == [100.0] * 3
    assert np.isnan(captioned["BLEU-4"])
    translated = translations.scores(copies, copies)
    assert np.isnan(translated["BLEU"])
    assert translated["chrF"] == 100.0
    assert translations.scores(["a red dog runs"], ["a red dog runs"])["BLEU"] == pytest.approx(100)
