"""`musicldm report`: the page as text, and in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from helpers import PATIENCE

from musicldm import audio
from musicldm.batch.folder import Folder
from musicldm.batch.record import Record, open_record
from musicldm.batch.report import write_report
from musicldm.batch.rows import PromptFile, Row
from musicldm.cli import main
from musicldm.io.picture import PALETTE, mel_picture, png

RATE = 16000
ATTACK = '"><img src=x onerror="window.attacked=1"><script>window.attacked=1</script>'
ROWS = [
    Row(index=0, prompt=f"a song in C# minor {ATTACK}", id="yt-1 & <b>", negative="<i>noise</i>"),
    Row(index=1, prompt="slow waltz"),
    Row(index=2, prompt="日本の歌 🎵"),
    Row(index=3, prompt="fast waltz \ud800"),
]
SCORES = [0.1, 0.4, None, 0.25]


def sound(index: int, seconds: float = 0.5) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * 220 * (index + 1) * np.arange(round(RATE * seconds)) / RATE)).astype(
        np.float32
    )


@pytest.fixture
def clips(tmp_path):
    """A folder as `musicldm batch --candidates 2 --keep-all` leaves it, and a name that is not a plain one."""
    out = tmp_path / "out & about #1"
    prompts = tmp_path / "p.txt"
    prompts.write_text("x")
    run = open_record(out, Record({"steps": 5}, prompts, PromptFile(prompts).survey()))
    folder = Folder(out, run, ".wav")
    for row, score in zip(ROWS, SCORES, strict=True):
        about = {
            "id": row.id, "prompt": row.prompt, "negative": row.negative, "seconds": 0.5 + row.index, "steps": 5,
            "guidance": 2.0, "eta": 0.0, "seed": 7, "candidates": [{"seed": 8, "score": score}, {"seed": 7, "score": None}],
            "score": score, "peak": 0.4, "samples": 8000, "rate": RATE, "scheduler": {"config": {"_class_name": "DDIMScheduler"}},
            "model": {"name": "tiny", "sha256": "0" * 64}, "device": "cpu", "wall_s": 0.1,
        }  # fmt: skip
        encoded = [
            audio.encode("x.wav", sound(row.index), RATE),
            audio.encode("x.wav", sound(row.index, 0.25), RATE),
        ]
        folder.save(row, encoded, about)
    return out


def test_every_clip_stands_beside_its_prompt_with_all_text_escaped(clips):
    path, count = write_report(clips)
    assert (path, count) == (clips / "report.html", 4)
    page = path.read_text(encoding="utf-8")
    for row in ROWS:
        assert html.escape(row.prompt.replace("\ud800", "?")) in page
    assert ATTACK not in page
    assert "<i>noise" not in page
    assert page.count("<audio") == 8
    assert page.count('src="data:image/png;base64,') == 4


def test_the_page_names_no_other_host(clips):
    for embed in (False, True):
        page = write_report(clips, embed=embed)[0].read_text(encoding="utf-8")
        assert "://" not in page
        assert "default-src 'none'" in page


def test_the_page_finds_the_clips_from_where_it_lies(clips):
    (clips.parent / "pages").mkdir()
    page = write_report(clips, clips.parent / "pages" / "page.html")[0].read_text(encoding="utf-8")
    assert 'src="../out%20%26%20about%20%231/000001-slow-waltz.wav"' in page


def test_embedding_makes_the_page_complete(clips):
    page = write_report(clips, embed=True)[0].read_text(encoding="utf-8")
    assert page.count('src="data:audio/wav;base64,') == 8
    assert "000001-slow-waltz.wav&quot;" not in page


def test_clips_that_are_missing_or_broken_are_shown_as_such(clips):
    (clips / "000001-slow-waltz.wav").unlink()
    (clips / "000002-clip.wav").write_bytes(b"RIFF")
    page = write_report(clips)[0].read_text(encoding="utf-8")
    assert "000001-slow-waltz.wav is missing" in page
    assert "000002-clip.wav cannot be read" in page
    assert page.count("<li ") == 4


def test_the_command_and_its_errors(clips, tmp_path, capsys):
    assert main(["report", str(clips), "-o", str(tmp_path / "r.html")]) == 0
    assert re.fullmatch(r".*r\.html: 4 clips, \d\.\d MB\n", capsys.readouterr().out)
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        ([str(tmp_path / "none")], "there is no such folder"),
        ([str(tmp_path / "empty")], "holds no clips with sidecars"),
        ([str(clips), "-o", str(tmp_path / "no" / "r.html")], "there is no folder"),
    ]:
        assert main(["report", *arguments]) == 1
        assert message in capsys.readouterr().err


def decoded(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and palette of a PNG, with every check sum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size]) == (zlib.crc32(kind + body),)
        chunks[kind] = body
        place += 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:], np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)


def test_a_png_holds_the_pixels():
    pixels = np.arange(60, dtype=np.uint8).reshape(5, 12)
    found, palette = decoded(png(pixels, PALETTE))
    assert np.array_equal(found, pixels)
    assert np.array_equal(palette, PALETTE)


def test_a_picture_shows_low_tones_low_and_late_ones_right():
    wave = np.concatenate([sound(0, 1.0), sound(9, 1.0)])  # 220 Hz, then 2200
    pixels, _ = decoded(mel_picture(wave))
    assert pixels.shape == (64, 200)
    assert pixels[:, 20].argmax() > 50 > 40 > pixels[:, 180].argmax()
    assert decoded(mel_picture(wave[:10]))[0].shape[0] == 64
    assert decoded(mel_picture(np.tile(wave, 10)))[0].shape == (64, 384)


PROBE = """<script>
const probe = {};
const order = () => [...document.querySelectorAll("li")].filter(row => !row.hidden).map(row => +row.dataset.index);
const set = (id, value, event) => {
  document.getElementById(id).value = value; document.getElementById(id).dispatchEvent(new Event(event)); };
probe.violations = 0;
document.addEventListener("securitypolicyviolation", () => { probe.violations += 1; });
probe.first = order();
set("by", "score", "change"); probe.by_score = order();
document.getElementById("turn").click(); probe.turned = order();
set("by", "prompt", "change"); probe.by_prompt = order();
set("filter", "WALTZ slow", "input"); probe.slow_waltz = order();
set("filter", "yt-1", "input"); probe.by_id = order(); probe.count = document.getElementById("count").textContent;
set("filter", "", "input"); set("by", "index", "change");
probe.attacked = window.attacked ?? null;
probe.text = document.querySelector("li .prompt").textContent;
const audios = [...document.querySelectorAll("audio")];
const heard = audios.map(audio => new Promise(done => {
  audio.addEventListener("loadedmetadata", () => done(audio.duration)); audio.addEventListener("error", () => done(null));
  audio.load(); audio.preload = "metadata"; }));
const seen = [...document.images].map(image => image.decode().then(() => [image.naturalWidth, image.naturalHeight]));
Promise.all([Promise.all(heard), Promise.all(seen)]).then(([durations, sizes]) => {
  Object.assign(probe, { durations, sizes });
  probe.resources = performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 5));
  document.title = "PROBE" + JSON.stringify(probe) + "END";
});
</script>"""


@pytest.mark.parametrize("embed", [False, True])
def test_a_browser_plays_sorts_and_filters_and_asks_nobody(clips, tmp_path, embed):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: the page is NOT checked in a browser (apt-get install chromium)")
    page = write_report(clips, embed=embed)[0]
    page.write_text(page.read_text(encoding="utf-8").replace("</html>", PROBE + "</html>"), encoding="utf-8")
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=20000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE, check=True,
    )  # fmt: skip
    found = re.search(r"<title>PROBE(.*?)END</title>", shown.stdout, re.DOTALL)
    assert found, shown.stdout[:500] + shown.stderr[-2000:]
    probe = json.loads(html.unescape(found[1]))
    assert probe["first"] == [0, 1, 2, 3]
    assert probe["by_score"] == [1, 3, 0, 2]
    assert probe["turned"] == [0, 3, 1, 2]
    assert probe["by_prompt"][:3] == [0, 3, 1]
    assert probe["slow_waltz"] == [1]
    assert (probe["by_id"], probe["count"]) == ([0], "1 of 4 clips")
    assert probe["attacked"] is None
    assert probe["violations"] == 0
    assert probe["text"] == ROWS[0].prompt
    assert probe["durations"] == [0.5, 0.25] * 4
    assert probe["sizes"] == [[50, 64]] * 4
    assert set(probe["resources"]) <= {"file:", "data:"}
