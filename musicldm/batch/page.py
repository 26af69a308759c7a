"""The report's page as text: a head, one entry a clip, a foot. It asks for the clips beside it, no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

__all__ = ["FOOT", "Entry", "head", "row_html"]

_POLICY = (  # the browser itself sees to it that nothing is asked of anybody else
    "default-src 'none'; img-src data:; media-src 'self' file: data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #777; --paper: #fff; --accent: #8a2a6c; }
@media (prefers-color-scheme: dark) { :root { --soft: #a2a2a2; --paper: #15151a; --accent: #f29a4a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 0 20px 60px; background: var(--paper);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 28px 0 4px; overflow-wrap: anywhere; }
.about { color: var(--soft); margin: 0 0 8px; overflow-wrap: anywhere; }
details summary { cursor: pointer; color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12.5px; margin: 6px 0; }
nav { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 10px;
  align-items: center; padding: 10px 0; background: var(--paper); border-bottom: 1px solid var(--line); }
nav input { flex: 1 1 220px; } nav input, nav select, nav button { font: inherit; padding: 5px 8px; }
nav output { color: var(--soft); min-width: 9em; text-align: right; }
ol { list-style: none; margin: 0; padding: 0; }
li { display: grid; grid-template-columns: 3em minmax(220px, 1fr) 400px 210px; gap: 6px 18px;
  padding: 14px 0; border-bottom: 1px solid var(--line);
  content-visibility: auto; contain-intrinsic-size: auto 165px; }
li[hidden] { display: none; }
.number { color: var(--soft); font-variant-numeric: tabular-nums; }
.prompt { overflow-wrap: anywhere; max-height: 9.2em; overflow-y: auto; white-space: pre-wrap; }
.small { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.mel { position: relative; height: 64px; cursor: pointer; background: #0d0e21; }
.mel img { display: block; width: 100%; height: 64px; }
.mel i { position: absolute; top: 0; bottom: 0; left: 0; width: 2px; background: #fff; display: none; }
audio { display: block; width: 100%; height: 34px; margin-top: 4px; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 8px; margin: 0; font-size: 13px;
  line-height: 1.35; align-content: start; font-variant-numeric: tabular-nums; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.missing { color: #c0392b; }
@media (max-width: 900px) { li { grid-template-columns: 3em 1fr; } li > :nth-child(n+3) { grid-column: 2; } }
"""

_SCRIPT = """
"use strict";
const list = document.querySelector("ol"), rows = [...list.children];
const by = document.getElementById("by"), turn = document.getElementById("turn");
const filter = document.getElementById("filter"), count = document.getElementById("count");
let down = false;
function key(row) {
  const text = row.dataset[by.value] ?? "";
  return by.value === "prompt" ? text : text === "" ? null : Number(text);
}
function compare(a, b) {
  if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);  // none comes last
  const order = typeof a.key === "string" ? a.key.localeCompare(b.key) : a.key - b.key;
  return (down ? -order : order) || a.row.dataset.index - b.row.dataset.index;
}
function sort() {
  turn.textContent = down ? "\\u2193" : "\\u2191";
  list.append(...rows.map(row => ({ row, key: key(row) })).sort(compare).map(pair => pair.row));
}
function show() {
  const words = filter.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    row.hidden = !words.every(word => row.dataset.text.includes(word));
    shown += !row.hidden;
  }
  count.textContent = shown === rows.length ? `${shown} clips` : `${shown} of ${rows.length} clips`;
}
by.addEventListener("change", () => { down = by.value === "score"; sort(); });
turn.addEventListener("click", () => { down = !down; sort(); });
filter.addEventListener("input", show);
list.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
list.addEventListener("timeupdate", event => {
  const audio = event.target, line = audio.parentElement.querySelector(".mel i");
  if (!line || !audio.hasAttribute("data-mel")) return;
  line.style.display = "block";
  line.style.left = `${100 * audio.currentTime / audio.duration}%`;
}, true);
list.addEventListener("click", event => {
  const mel = event.target.closest(".mel");
  if (!mel) return;
  const audio = mel.parentElement.querySelector("audio[data-mel]");
  const box = mel.getBoundingClientRect(), part = (event.clientX - box.left) / box.width;
  const go = () => { audio.currentTime = part * audio.duration; audio.play(); };
  if (audio.readyState) go();
  else { audio.addEventListener("loadedmetadata", go, { once: true }); audio.load(); }
});
show();
"""

FOOT = f"</ol>\n<script>{_SCRIPT}</script>\n</html>\n"


@dataclass(frozen=True)
class Entry:
    """One clip, as it is shown. All texts are plain; `row_html` escapes them.

    clips: (title, URL) of each, best first; none if the file is missing, and `problem` says so. mel: the URL
    of the picture. facts: name -> value. keys: what the page sorts by, name -> number or text.
    """

    index: int
    prompt: str
    clips: list[tuple[str, str]]
    mel: str = ""
    notes: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def head(title: str, about: str, settings: str, sorts: dict[str, str], clips: int) -> str:
    """The page up to its first clip. sorts: key -> what the menu calls it."""
    options = "".join(f'<option value="{escape(key)}">{escape(name)}</option>' for key, name in sorts.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
<h1>{escape(title)}</h1>
<p class="about">{escape(about)}</p>
<details><summary>Settings of the run</summary><pre>{escape(settings)}</pre></details>
<nav>
<input id="filter" type="search" placeholder="Filter by words of prompt, id or file" aria-label="Filter">
<label>Sort by <select id="by">{options}</select></label>
<button id="turn" type="button" title="Turn the order" aria-label="Turn the order">&uarr;</button>
<output id="count">{clips} clips</output>
</nav>
<ol>
"""


def row_html(entry: Entry) -> str:
    """One clip's place in the list."""
    searched = " ".join([entry.prompt, *entry.notes, *(title for title, _ in entry.clips)]).lower()
    keys = {"index": str(entry.index), "prompt": entry.prompt[:200].lower(), **entry.keys, "text": searched}
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in keys.items())
    notes = "".join(f'<div class="small">{escape(note)}</div>' for note in entry.notes)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entry.facts.items())
    return (
        f'<li {data}><div class="number">{entry.index}</div>'
        f'<div><div class="prompt">{escape(entry.prompt)}</div>{notes}</div>'
        f"<div>{_player(entry)}</div><dl>{facts}</dl></li>\n"
    )


def _player(entry: Entry) -> str:
    if entry.problem:
        return f'<div class="missing">{escape(entry.problem)}</div>'
    (_, best), *others = entry.clips
    player = (
        f'<div class="mel"><img src="{escape(entry.mel)}" alt="log-mel spectrogram" decoding="async">'
        f'<i></i></div><audio controls preload="none" data-mel src="{escape(best)}"></audio>'
    )
    if others:
        listed = "".join(
            f'<div class="small">{escape(title)}</div>'
            f'<audio controls preload="none" src="{escape(url)}"></audio>'
            for title, url in others
        )
        player += f'<details><summary class="small">{len(others)} more</summary>{listed}</details>'
    return player
