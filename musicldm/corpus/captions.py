"""What people would write to ask for a clip: true of it, in many forms.

Keys are spelled with a capital, so that `in A minor` and `in a minor key` stay apart; the rest is lower
case, mostly.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .clip import Facts
from .colours import ADJECTIVES, PLACES, PLURALS
from .instruments import INSTRUMENTS
from .styles import style_of

__all__ = ["DAMAGE_WORDS", "FAST", "GOOD_WORDS", "MOODS", "SLOW", "captions", "moods", "tempo_words"]

SLOW, FAST = 84, 120  # BPM: slow up to here, fast from here
MOODS: tuple[tuple[str, Callable[[Facts], bool]], ...] = (
    ("slow", lambda f: f.bpm <= SLOW),
    ("mid-tempo", lambda f: SLOW < f.bpm < FAST),
    ("fast", lambda f: f.bpm >= FAST),
    ("up-tempo", lambda f: f.bpm >= FAST),
    ("upbeat", lambda f: f.bpm >= 105 and f.dynamics != "soft" and f.drums),
    ("sad", lambda f: f.mode == "minor" and f.bpm <= 90 and f.dynamics == "soft"),
    ("melancholic", lambda f: f.mode == "minor" and f.bpm <= 110 and f.dynamics != "loud"),
    ("moody", lambda f: f.mode in ("minor", "dorian", "phrygian") and f.bpm < 130),
    ("dark", lambda f: f.mode in ("minor", "phrygian") and f.dynamics != "soft"),
    ("tense", lambda f: f.mode == "phrygian"),
    ("happy", lambda f: f.mode in ("major", "mixolydian") and f.bpm >= 95),
    ("cheerful", lambda f: f.mode == "major" and f.bpm >= 105),
    ("bright", lambda f: f.mode in ("major", "lydian") and f.bpm > SLOW),
    ("warm", lambda f: f.mode == "major" and f.bpm <= 100 and f.dynamics != "loud"),
    ("tender", lambda f: f.mode == "major" and f.bpm <= SLOW and f.dynamics == "soft"),
    ("dreamy", lambda f: f.bpm <= SLOW and not f.drums and f.dynamics == "soft"),
    ("calm", lambda f: f.bpm <= 90 and f.dynamics == "soft"),
    ("relaxing", lambda f: f.bpm <= 100 and f.dynamics == "soft"),
    ("laid-back", lambda f: f.bpm <= 100 and f.drums and f.dynamics != "loud"),
    ("soft", lambda f: f.dynamics == "soft"),
    ("gentle", lambda f: f.dynamics == "soft"),
    ("quiet", lambda f: f.dynamics == "soft"),
    ("loud", lambda f: f.dynamics == "loud"),
    ("powerful", lambda f: f.dynamics == "loud"),
    ("energetic", lambda f: f.dynamics == "loud" and f.bpm >= 105),
    ("driving", lambda f: f.bpm >= FAST and f.drums and f.dynamics == "loud"),
    ("melodic", lambda f: f.lead is not None),
    ("danceable", lambda f: f.style in ("techno", "house", "funk") and f.drums),
)
DAMAGE_WORDS = {
    "muffled": ("low quality", "muffled", "low quality, muffled sound", "muffled recording"),
    "noisy": ("low quality", "noisy recording", "low quality, noisy", "recording full of hiss"),
    "crushed": ("low quality", "bit-crushed", "low quality, bit-crushed", "crushed low quality recording"),
    "clipped": (
        "low quality",
        "clipped and distorted recording",
        "low quality, clipped",
        "distorted low quality recording",
    ),
}
GOOD_WORDS = ("high quality", "clear recording", "high quality recording", "clean sound")
NO_DRUMS = ("no drums", "without drums")
ROUGH = 0.08  # chance that a caption of a good clip says so


def captions(facts: Facts, rng: Random) -> list[str]:
    """Three to five different captions: the first names the style, the others what they like."""
    wanted = rng.randint(3, 5)
    found = [_finished(rng.choice(FULL)(facts, rng), facts, rng)]
    while len(found) < wanted:
        form = rng.choices(FORMS, WEIGHTS)[0]
        text = _finished(form(facts, rng), facts, rng)
        if text.lower() not in [other.lower() for other in found]:
            found.append(text)
    return found


def moods(facts: Facts) -> list[str]:
    """All adjectives that hold for a clip."""
    return [word for word, holds in MOODS if holds(facts)]


def tempo_words(facts: Facts) -> tuple[str, ...]:
    """The ways to say the tempo without a number."""
    if facts.bpm <= SLOW:
        return "slow", "at a slow tempo", "slow tempo"
    if facts.bpm < FAST:
        return "mid-tempo", "at a moderate tempo", "medium tempo"
    return "fast", "at a fast tempo", "fast tempo"


def _finished(text: str, facts: Facts, rng: Random) -> str:
    if facts.quality != "good":
        word = rng.choice(DAMAGE_WORDS[facts.quality])
        text = rng.choice((f"{word}, {text}", f"{text}, {word}"))
    elif rng.random() < ROUGH:
        text = f"{text}, {rng.choice(GOOD_WORDS)}"
    if rng.random() < 0.08:
        text = text[0].upper() + text[1:] + rng.choice(("", ".", "."))
    return text


def _style(facts: Facts, rng: Random) -> str:
    return rng.choice(style_of(facts.style).words)


def _word(name: str, rng: Random) -> str:
    words = INSTRUMENTS[name].words
    return words[0] if rng.random() < 0.6 else rng.choice(words)


def _mood(facts: Facts, rng: Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(ADJECTIVES[facts.style])
    return rng.choice(moods(facts) or [tempo_words(facts)[0]])


def _bpm(facts: Facts, rng: Random) -> str:
    return rng.choice(
        ("{} bpm", "at {} bpm", "{} bpm", "{} beats per minute", "tempo {} bpm", "{}bpm")
    ).format(facts.bpm)


def _key(facts: Facts, rng: Random) -> str:
    if facts.mode == "blues":
        return rng.choice((f"in {facts.key}", f"in the key of {facts.key}"))
    named = f"{facts.key} {facts.mode}"
    broad = [f"in a {facts.mode} key"] * 2 if facts.mode in ("major", "minor") else [f"in {facts.mode} mode"]
    return rng.choice((f"in {named}", f"in the key of {named}", *broad))


def _drums(facts: Facts, rng: Random) -> str:
    if not facts.drums:
        return rng.choice(NO_DRUMS)
    pace = "fast" if facts.bpm >= FAST else "slow" if facts.bpm <= SLOW else "steady"
    return rng.choice(("drums", "drums", "with drums", f"a {pace} beat", f"a {pace} drum beat"))


def _band(facts: Facts, rng: Random, most: int) -> list[str]:
    """Some of the instruments: the lead more often than the others, drums if there are any."""
    names = [facts.lead] if facts.lead and rng.random() < 0.8 else []
    others = [name for name in facts.backing if name != facts.lead]
    names += rng.sample(others, min(len(others), rng.randint(0 if names else 1, most)))
    words = list(dict.fromkeys(_word(name, rng) for name in names))
    if rng.random() < 0.12:
        words += [plural for plural, one in PLURALS.items() if _plays(facts, one) and one not in words][:1]
    if facts.drums and (not words or rng.random() < 0.4):
        words.append(rng.choice(("drums", "drums", "a drum beat")))
    return words or ["no drums"]


def _plays(facts: Facts, word: str) -> bool:
    """Whether an instrument of the clip may be called that."""
    names = [*([facts.lead] if facts.lead else []), *facts.backing]
    return any(word in INSTRUMENTS[name].words for name in names)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _melody(facts: Facts, rng: Random) -> str:
    if not facts.lead:
        return _listed(_band(facts, rng, 2))
    word = _word(facts.lead, rng)
    article = "an" if word[0] in "aeiou8" else "a"
    forms = ["{w} melody", "{w}", "{w} playing the melody", "a melody on {w}", "{w} solo"]
    if not word.endswith("s"):
        forms += ["{a} {w} melody", "{a} {w}" if "lead" in word else "{a} {w} lead"]
    return rng.choice(forms).format(w=word, a=article)


def _bare(facts: Facts, rng: Random) -> str:
    return _style(facts, rng)


def _adjective(facts: Facts, rng: Random) -> str:
    return f"{_mood(facts, rng)} {_style(facts, rng)}"


def _with_band(facts: Facts, rng: Random) -> str:
    mood = f"{_mood(facts, rng)} " if rng.random() < 0.7 else ""
    return f"{mood}{_style(facts, rng)} with {_listed(_band(facts, rng, 3))}"


def _with_melody(facts: Facts, rng: Random) -> str:
    mood = f"{_mood(facts, rng)} " if rng.random() < 0.6 else ""
    text = f"{mood}{_style(facts, rng)} with {_melody(facts, rng)}"
    said = facts.drums and "drum" in text
    return text if said or rng.random() < 0.5 else f"{text}, {_drums(facts, rng)}"


def _with_tempo(facts: Facts, rng: Random) -> str:
    tempo = _bpm(facts, rng)
    head = f"{_mood(facts, rng)} {_style(facts, rng)}" if rng.random() < 0.5 else _style(facts, rng)
    tail = f", {_drums(facts, rng)}" if rng.random() < 0.4 else ""
    return f"{head}{' ' if tempo.startswith('at') else ', '}{tempo}{tail}"


def _with_key(facts: Facts, rng: Random) -> str:
    mood = f"{_mood(facts, rng)} " if rng.random() < 0.5 else ""
    tempo = rng.choice((f", {_bpm(facts, rng)}", "", f", {tempo_words(facts)[2]}"))
    return f"{mood}{_style(facts, rng)} {_key(facts, rng)}{tempo}"


def _instrument_first(facts: Facts, rng: Random) -> str:
    name = facts.lead or next(iter(facts.backing), "")
    head = f"{_word(name, rng)} {_style(facts, rng)}" if name else _style(facts, rng)
    mood = f"{_mood(facts, rng)} " if rng.random() < 0.6 else ""
    return f"{mood}{head}{rng.choice(('', ', ' + _bpm(facts, rng), ' ' + _key(facts, rng)))}"


def _tags(facts: Facts, rng: Random) -> str:
    tags = [
        _mood(facts, rng),
        _bpm(facts, rng).removeprefix("at "),
        _drums(facts, rng),
        _key(facts, rng).removeprefix("in "),
    ]
    tags += _band(facts, rng, 2)
    tags = rng.sample(tags, rng.randint(2, len(tags)))
    return ", ".join(dict.fromkeys([_style(facts, rng), *tags]))


def _sentence(facts: Facts, rng: Random) -> str:
    opening = rng.choice(
        ("an instrumental {m} {s} piece", "{m} {s} track", "{m} {s} music", "{m} {s}, instrumental,")
    )
    text = opening.format(m=_mood(facts, rng), s=_style(facts, rng)).replace("music music", "music")
    text += f" {_key(facts, rng)}" if rng.random() < 0.5 else ""
    text += f" {rng.choice(('featuring', 'with', 'played with'))} {_listed(_band(facts, rng, 3))}"
    text += f", {_bpm(facts, rng)}" if rng.random() < 0.5 else ""
    return text + (f", {rng.choice(NO_DRUMS)}" if not facts.drums and "drums" not in text else "")


def _placed(facts: Facts, rng: Random) -> str:
    mood = f"{_mood(facts, rng)} " if rng.random() < 0.6 else ""
    ending = rng.choice(
        (f", {_drums(facts, rng)}", f", {_bpm(facts, rng)}", f" with {_melody(facts, rng)}", "")
    )
    return f"{mood}{_style(facts, rng)} {rng.choice(PLACES[facts.style])}{ending}"


def _request(facts: Facts, rng: Random) -> str:
    asked = rng.choice(("give me", "play", "i want", "make", "some", "a clip of", "please play"))
    return f"{asked} {rng.choice((_with_band, _with_melody, _adjective, _placed, _with_tempo))(facts, rng)}"


def _tune(facts: Facts, rng: Random) -> str:
    kind = (
        rng.choice(("tune", "song", "groove", "piece"))
        if facts.drums
        else rng.choice(("tune", "song", "piece"))
    )
    mood = _mood(facts, rng)
    article = "an" if mood[0] in "aeiou8" else "a"
    ending = rng.choice(
        (f" with {_listed(_band(facts, rng, 3))}", f" {_key(facts, rng)}", f", {_bpm(facts, rng)}")
    )
    return f"{article} {mood} {_style(facts, rng)} {kind}{ending}"


def _only_instruments(facts: Facts, rng: Random) -> str:
    if not facts.lead:
        return _listed(_band(facts, rng, 3))
    lead = _melody(facts, rng)
    others = [_word(name, rng) for name in facts.backing[:2] if name != facts.lead]
    others += ["drums"] if facts.drums and rng.random() < 0.5 else []
    return f"{lead} {rng.choice(('over', 'with'))} {_listed(others)}" if others else lead


def _only_feel(facts: Facts, rng: Random) -> str:
    first, second = rng.sample(moods(facts), 2) if len(moods(facts)) > 1 else (_mood(facts, rng), "")
    ending = f"with {_melody(facts, rng)}" if rng.random() < 0.6 else _key(facts, rng)
    return f"{', '.join(filter(None, (first, second)))} music {ending}"


FULL = (_with_band, _with_melody, _with_tempo, _sentence, _tags, _instrument_first)
FORMS = (*FULL, _with_key, _adjective, _bare, _only_instruments, _only_feel, _placed, _request, _tune)
WEIGHTS = (5, 5, 5, 3, 4, 4, 4, 4, 2, 2, 2, 4, 3, 3)
