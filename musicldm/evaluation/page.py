"""The report as one HTML file: tables, distributions, clips to hear side by side. No script, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["Example", "Player", "page"]

_POLICY = (  # the browser itself sees to it that nothing is asked of anybody else
    "default-src 'none'; img-src data:; media-src 'self' file: data:; style-src 'unsafe-inline'"
)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #6b6b6b; --paper: #fff; --ink: #1b1b1f;
  --one: #8a2a6c; --two: #c05a00; --three: #1d6f8a; }
@media (prefers-color-scheme: dark) { :root { --soft: #a2a2a2; --paper: #15151a; --ink: #e8e8ea;
  --one: #d873b8; --two: #f29a4a; --three: #66bcd6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 0 20px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 28px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 30px 0 8px; }
.about, .small { color: var(--soft); overflow-wrap: anywhere; }
.about { margin: 0 0 6px; } .small { font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; min-width: 700px;
  width: 100%; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:nth-child(2), th:nth-child(2) { text-align: right; } td:nth-child(2) { font-weight: 600; }
td:nth-child(2), td:nth-child(3), td:nth-child(6) { white-space: nowrap; }
td span { display: block; color: var(--soft); font-size: 12.5px; }
td:first-child, th:first-child { position: sticky; left: 0; width: 19em; background: var(--paper); }
ul { margin: 6px 0; padding-left: 1.2em; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12.5px; margin: 6px 0; }
.figures { display: grid; gap: 20px 28px;
  grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; font-size: 14px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .axis { stroke: var(--soft); fill: none; } svg .grid { stroke: var(--line); fill: none; }
svg .mark { stroke: var(--ink); stroke-dasharray: 3 3; fill: none; }
svg text.mark { stroke: none; fill: var(--ink); }
svg .s0 { fill: var(--one); fill-opacity: .35; stroke: var(--one); }
svg .s1 { fill: none; stroke: var(--two); stroke-width: 1.6; }
svg .s2 { fill: none; stroke: var(--three); stroke-width: 1.6; stroke-dasharray: 5 2; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 5px; vertical-align: -1px; }
.legend .s0 i { background: var(--one); opacity: .6; }
.legend .s1 i { border-top: 3px solid var(--two); height: 6px; }
.legend .s2 i { border-top: 3px dashed var(--three); height: 6px; }
ol { list-style: none; margin: 0; padding: 0; }
ol li { display: grid; grid-template-columns: 5em repeat(2, minmax(0, 1fr)); gap: 6px 18px; padding: 14px 0;
  border-bottom: 1px solid var(--line); }
.value { font-variant-numeric: tabular-nums; font-weight: 600; }
.player b { font-weight: 600; font-size: 13px; overflow-wrap: anywhere; }
.player p { margin: 2px 0 6px; overflow-wrap: anywhere; max-height: 6em; overflow-y: auto; }
.player { display: flex; flex-direction: column; }
.player img { display: block; width: 100%; height: 64px; margin-top: auto; background: #0d0e21; }
audio { display: block; width: 100%; height: 34px; margin-top: 4px; }
.missing { color: #c0392b; }
@media (max-width: 700px) { ol li { grid-template-columns: minmax(0, 1fr); }
  td:first-child, th:first-child { width: auto; min-width: 8.5em; } }
"""


@dataclass(frozen=True)
class Player:
    """A clip to hear. title: which one; text: its prompt or what is known; mel, sound: URLs, or a problem."""

    title: str
    text: str = ""
    mel: str = ""
    sound: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Example:
    """A value, and the one or two clips that it is of."""

    value: str
    players: Sequence[Player]


def page(
    title: str,
    about: Sequence[str],
    notes: Sequence[str],
    tables: str,
    figures: Sequence[str],
    examples: Sequence[tuple[str, str, Sequence[Example]]],
    settings: Mapping[str, Any],
) -> str:
    """The whole file.

    about, notes: lines of plain text. tables, figures: HTML. examples: (heading, what it shows, clips).
    """
    known = "".join(f"<li>{escape(note)}</li>" for note in notes)
    known = (
        f'<details open><summary>To know of these numbers</summary><ul class="small">{known}</ul></details>'
        if notes
        else ""
    )
    lines = "".join(f'<p class="about">{escape(line)}</p>' for line in about)
    drawn = f'<h2>Distributions</h2><div class="figures">{"".join(figures)}</div>' if figures else ""
    heard = "".join(_section(*section) for section in examples if section[2])
    told = escape(json.dumps(settings, indent=1, ensure_ascii=False))
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
<h1>{escape(title)}</h1>
{lines}
{known}
{tables}
{drawn}
{heard}
<details><summary>Everything needed to repeat it (from report.json)</summary><pre>{told}</pre></details>
</html>
"""


def _section(heading: str, text: str, examples: Sequence[Example]) -> str:
    items = "".join(
        f'<li><div class="value">{escape(example.value)}</div>{"".join(map(_player, example.players))}</li>\n'
        for example in examples
    )
    return f'<h2>{escape(heading)}</h2><p class="about">{escape(text)}</p><ol>{items}</ol>\n'


def _player(player: Player) -> str:
    head = f'<b>{escape(player.title)}</b><p class="small">{escape(player.text)}</p>'
    if player.problem:
        return f'<div class="player">{head}<div class="missing">{escape(player.problem)}</div></div>'
    return (
        f'<div class="player">{head}<img src="{escape(player.mel)}" alt="log-mel spectrogram">'
        f'<audio controls preload="none" src="{escape(player.sound)}"></audio></div>'
    )
