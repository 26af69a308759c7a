"""What people say of a style as such: words that hold for every clip of it, whatever else is true."""

from __future__ import annotations

__all__ = ["ADJECTIVES", "PLACES", "PLURALS"]

ADJECTIVES: dict[str, tuple[str, ...]] = {
    "techno": ("hypnotic", "pounding", "relentless", "electronic"),
    "house": ("groovy", "electronic", "four on the floor", "club"),
    "drum and bass": ("racing", "breakbeat", "rolling", "electronic"),
    "hip hop": ("old school", "head-nodding", "urban", "looped"),
    "ambient": ("floating", "spacious", "atmospheric", "meditative"),
    "chiptune": ("retro", "pixelated", "arcade", "old school"),
    "rock": ("electric", "guitar-driven", "raw"),
    "funk": ("groovy", "tight", "syncopated"),
    "reggae": ("off-beat", "jamaican", "island"),
    "bossa nova": ("brazilian", "syncopated", "swaying", "romantic"),
    "jazz": ("swinging", "smoky", "late night"),
    "blues": ("smoky", "crying", "shuffling", "twelve bar"),
    "folk": ("acoustic", "rustic", "traditional", "strummed"),
    "waltz": ("whirling", "elegant", "romantic", "old-fashioned"),
    "ballad": ("romantic", "emotional", "heartfelt", "expressive"),
    "march": ("proud", "marching", "ceremonial", "military"),
}
PLACES: dict[str, tuple[str, ...]] = {
    "techno": ("for the club", "for a warehouse party", "for a late night rave", "for dancing all night"),
    "house": ("for the dance floor", "for the club", "for a beach party", "for dancing at night"),
    "drum and bass": ("for a rave", "for the club", "for a car chase", "for running"),
    "hip hop": ("for rapping", "for studying", "for the street", "to nod your head to"),
    "ambient": ("for sleep", "for meditation", "for a wide empty space", "for studying"),
    "chiptune": (
        "for a jumping hero",
        "for a boss fight",
        "for a platform game",
        "from an old arcade machine",
    ),
    "rock": ("for a stadium", "from a garage band", "for the road", "played on a big stage"),
    "funk": ("to dance to", "for a dance party", "from a tight band", "for the dance floor"),
    "reggae": ("from the island", "for the beach", "for a summer day", "in the sun"),
    "bossa nova": ("for a cafe", "for the beach", "for a summer evening", "for dinner"),
    "jazz": ("for a smoky bar", "for a late night club", "from a small combo", "for dinner"),
    "blues": ("for a smoky bar", "from the delta", "late at night", "played in a small club"),
    "folk": ("around the fire", "for a village dance", "from the mountains", "for a walk in the woods"),
    "waltz": ("for the ballroom", "to dance to", "from old vienna", "for a carousel"),
    "ballad": ("for a wedding", "about lost love", "for a rainy evening", "for a film scene"),
    "march": ("for a parade", "for soldiers", "for a football field", "for a proud ceremony"),
}
PLURALS = {  # a plural, and the word that an instrument's names must hold for it
    "synths": "synth",
    "pads": "synth pad",
    "guitars": "guitar",
}
