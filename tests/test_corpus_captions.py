"""Captions say nothing that is not so; the prompts that judge are nobody's template."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from musicldm.corpus.captions import DAMAGE_WORDS, captions
from musicldm.corpus.clip import Facts
from musicldm.corpus.instruments import INSTRUMENTS
from musicldm.corpus.plan import describe, entry, generator, score
from musicldm.corpus.prompts import evaluation_prompts
from musicldm.corpus.styles import STYLE_NAMES, style_of
from musicldm.corpus.theory import MODES

CLIPS = range(250)  # ten blocks: twenty degraded copies
MODE = "|".join(MODES)
STYLE_WORDS = sorted(
    {word for style in map(style_of, STYLE_NAMES) for word in style.words}, key=len, reverse=True
)
NAMES: dict[str, set[str]] = {}
for instrument in INSTRUMENTS.values():
    for word in instrument.words:
        NAMES.setdefault(word, set()).add(instrument.name)


@pytest.fixture(scope="module")
def described() -> list[tuple[Facts, list[str]]]:
    made = []
    for number in CLIPS:
        of = entry(0, number)
        clip = score(0, of)
        made.append((clip.facts, describe(0, of, clip)))
    return made


@cache
def any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    """One of the words, the longest that fits."""
    longest = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])({longest})(?![\w-])", re.IGNORECASE)


def take(words: list[str], text: str) -> tuple[list[str], str]:
    """The words that stand in the text, and the text without them."""
    pattern = any_of(tuple(words))
    return [found.lower() for found in pattern.findall(text)], pattern.sub("_", text)


def wrong(caption: str, facts: Facts) -> list[str]:
    """What a caption claims that the facts do not bear out, read back by rules of our own."""
    problems = []
    for number, _ in re.findall(r"(\d+) ?(bpm|beats per minute)", caption):
        problems += ["bpm"] * (int(number) != facts.bpm)
    for key, mode in re.findall(rf"(?:in|key of) ([A-G][b#]?)(?![\w#])(?: ({MODE}))?", caption):
        problems += ["key"] * (key != facts.key) + ["mode"] * (bool(mode) and mode != facts.mode)
    for mode in re.findall(rf"\ba ({MODE}) key|\b({MODE}) mode", caption):
        problems += ["mode"] * (facts.mode not in mode)
    damaged = {kind for kind, words in DAMAGE_WORDS.items() if any(word in caption.lower() for word in words)}
    problems += ["quality"] * (facts.quality not in (damaged or {"good"}))
    text = re.sub(r"\d+ ?(bpm|beats per minute)", "_", caption)
    found, text = take(
        [*STYLE_WORDS, *NAMES], text
    )  # "rock organ" before "rock", "drum and bass" before "bass"
    styles = [word for word in found if word in STYLE_WORDS]
    problems += ["style"] * any(word not in style_of(facts.style).words for word in styles)
    playing = {facts.lead, *facts.backing}
    problems += ["instrument"] * any(word in NAMES and not NAMES[word] & playing for word in found)
    without, text = take(["no drums", "without drums"], text)
    problems += ["drums"] * (bool(without) and facts.drums)
    problems += ["drums"] * (bool(re.search(r"\b(drums?|beat)\b", text)) and not facts.drums)
    claims = {
        r"\bslow\b": facts.bpm <= 84,
        r"\b(fast|up-tempo|driving)\b": facts.bpm >= 120,
        r"\b(mid-tempo|moderate|medium)\b": 84 < facts.bpm < 120,
        r"\b(soft|gentle|quiet|tender|calm)\b": facts.dynamics == "soft",
        r"\b(loud|powerful|energetic)\b": facts.dynamics == "loud",
        r"\b(sad|melancholic)\b": facts.mode == "minor",
        r"\b(happy|cheerful|warm|tender)\b": facts.mode in ("major", "mixolydian"),
        r"\b(dark|moody|tense)\b": facts.mode in ("minor", "dorian", "phrygian"),
    }
    return problems + [claim for claim, holds in claims.items() if re.search(claim, text, re.I) and not holds]


def test_every_caption_is_true_of_its_clip(described):
    for facts, texts in described:
        for text in texts:
            assert not wrong(text, facts), (text, facts)


def test_the_reader_notices_what_is_not_true(described):
    """The check above would pass for the wrong reason if it read nothing."""
    lies = {
        "bpm": lambda f: replace(f, bpm=f.bpm + 1),
        "key": lambda f: replace(f, key="C" if f.key != "C" else "D"),
        "mode": lambda f: replace(f, mode="locrian"),
        "drums": lambda f: replace(f, drums=not f.drums),
        "instrument": lambda f: replace(f, lead=None, backing=()),
        "style": lambda f: replace(f, style="polka-free" if f.style == "waltz" else "waltz"),
        "quality": lambda f: replace(f, quality="good" if f.quality != "good" else "noisy"),
    }
    for what, lie in lies.items():
        if what == "style":
            cases = [(lie(f), t) for f, texts in described if f.style != "waltz" for t in texts]
        else:
            cases = [(lie(f), t) for f, texts in described for t in texts]
        caught = sum(what in wrong(text, facts) for facts, text in cases)
        assert caught > 0.04 * len(cases), what


def test_captions_vary_and_name_what_matters(described):
    texts = [text for _, found in described for text in found]
    assert all(3 <= len(found) <= 5 and len(set(found)) == len(found) for _, found in described)
    assert len(set(texts)) > 0.8 * len(texts)
    share = {
        "bpm": sum(bool(re.search(r"\d ?(bpm|beats)", text)) for text in texts),
        "key": sum(bool(re.search(rf"({MODE})|in [A-G]", text)) for text in texts),
        "instrument": sum(bool(take(list(NAMES), text)[0]) for text in texts),
    }
    assert all(0.15 < count / len(texts) < 0.85 for count in share.values()), share
    assert sum(text[0].islower() or text[0].isdigit() for text in texts) > 0.85 * len(texts)
    lengths = Counter(len(text.split()) for text in texts)
    assert lengths[1] > 0  # a bare style
    assert max(lengths) > 12
    for facts, found in described:
        assert take(list(style_of(facts.style).words), found[0])[0], found[0]


def test_degraded_copies_say_so_in_every_caption(described):
    copies = [(facts, texts) for facts, texts in described if facts.quality != "good"]
    assert len(copies) == 0.08 * len(described)
    assert {facts.quality for facts, _ in copies} == set(DAMAGE_WORDS)
    for facts, texts in copies:
        assert all(any(word in text.lower() for word in DAMAGE_WORDS[facts.quality]) for text in texts)


def test_captions_come_from_the_seed_alone(described):
    facts, _ = described[0]
    assert captions(facts, generator(0, "a")) == captions(facts, generator(0, "a"))
    assert captions(facts, generator(0, "a")) != captions(facts, generator(0, "b"))


def test_the_prompts_that_judge(described):
    prompts = evaluation_prompts()
    assert len({prompt.prompt for prompt in prompts}) == 64
    assert Counter(prompt.style for prompt in prompts) == dict.fromkeys(STYLE_NAMES, 4)
    templates = {text.lower().rstrip(".") for _, found in described for text in found}
    for prompt in prompts:
        style = style_of(prompt.style)
        assert prompt.prompt.lower() not in templates
        named = re.findall(r"(\d+) bpm", prompt.prompt)
        assert named == ([str(prompt.bpm)] if prompt.bpm else [])
        assert prompt.bpm is None or style.bpm[0] <= prompt.bpm <= style.bpm[1]
        assert prompt.lead is None or prompt.lead in style.tune.instruments, prompt
        if prompt.lead:
            assert take(list(INSTRUMENTS[prompt.lead].words), prompt.prompt)[0], prompt
        if re.search(r"(no|without) drums", prompt.prompt):
            assert prompt.drums is False
    assert sum(prompt.bpm is not None and prompt.drums is True for prompt in prompts) >= 20
