"""The guard of documents bites: planted pages whose snippets are wrong, and how pages are read."""

from __future__ import annotations

import pytest

from .checks import problem, undefined
from .reading import Snippet, snippets
from .reductions import is_mention, reduced
from .session import Session


def planted(tmp_path, text: str) -> list[Snippet]:
    page = tmp_path / "README.md"  # a page that is known
    page.write_text(text)
    return snippets(page, tmp_path)


def block(text: str, language: str = "bash") -> str:
    return f"```{language}\n{text}\n```\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (block('musicldm generate "a waltz" --stepz 3 -o a.wav'), "unrecognized arguments: --stepz"),
        (block('musicldm compose "a waltz"'), "invalid choice: 'compose'"),
        (block("musicldm train ldm ldm-fine --set output=x"), "neither a file nor an example config"),
        (block("musicldm report FOLDER"), "a placeholder stands in it"),
        (block("ffmpeg -i a.mp3 a.wav"), "neither run nor listed: nothing is known of 'ffmpeg'"),
        (block("musicldm report clips && sox a b"), "neither run nor listed: nothing is known of 'sox'"),
        (block("python benchmarks/no_such.py"), "there is no benchmarks/no_such.py"),
        (block("python benchmarks/vs_diffusers.py modules --roundz 3"), "has no --roundz"),  # listed, and still read
        (block("torchrun --nproc-per-node 4 -m musicldm batch a.txt"), "required: -o"),
        (block("x = = 1", "python"), "no Python"),
        ("Use `musicldm generate PROMPT --sed N`.\n", "musicldm generate has no --sed"),
        ("Use `musicldm compose`.\n", "invalid choice: 'compose'"),
        ("Use\n\n    musicldm report clips --format pdf\n", "unrecognized arguments: --format"),
    ],
)  # fmt: skip
def test_a_wrong_snippet_is_told_before_it_is_run(tmp_path, text, said):
    found = planted(tmp_path, text)
    assert len(found) == 1
    assert said in problem(found[0])


def test_a_page_that_nobody_has_prepared_is_told(tmp_path):
    page = tmp_path / "NEW.md"
    page.write_text(block("musicldm report clips"))
    (snippet,) = snippets(page, tmp_path)
    assert "the page is new" in problem(snippet)


def test_names_that_nothing_defines_are_told():
    first = "import torch\nfrom a.b import c as d\n\ndef f(x): return [y for y in x]\n"
    assert undefined([first, "for step in f(d): print(step, torch)"]) == set()
    assert undefined([first, "Guided(f, cond, uncond)"]) == {"Guided", "cond", "uncond"}


def test_snippets_that_fail_when_they_run(tmp_path):
    with Session(tmp_path) as session:
        assert session.run("bash", "test $HOME = $PWD/home && echo a > a.txt") == ""
        assert session.run("bash", "cat a.txt") == ""  # in one folder, one after the other
        assert "exit status 1" in session.run("bash", "cat none.txt | head -1")
        assert session.run("python", "x = 2") == ""
        assert session.run("python", "assert x == 2") == ""  # names are shared
        assert "NameError: name 'cond'" in session.run("python", "print(x, cond)")
        assert session.run("python", "# mine.py\ny = 3") == ""
        assert session.run("bash", "python -c 'import mine; assert mine.y == 3'") == ""
        assert "Python has died" in session.run("python", "import os; os._exit(3)")


def test_a_page_is_read_as_a_person_reads_it(tmp_path):
    found = planted(tmp_path, '''# Title

Run `musicldm
report clips` or `python x.py`; `pipe(1)` is no command, nor is ``musicldm``.

```bash
apt-get install a  # a comment
musicldm batch a.txt -o clips \\
    --steps 3      # more
python -c '
print("# no comment")
' > a.txt
```

```
folder/   what is in it
```

    musicldm report x

| edit | code | command |
|---|---|---|
| one | `f(x)` | `musicldm report y` |
| two | | `musicldm report z` |

```python
a = 1

b = a
```
''')  # fmt: skip
    assert [(snippet.line, snippet.language, snippet.text, snippet.inline) for snippet in found] == [
        (3, "bash", "musicldm report clips", True),
        (4, "bash", "python x.py", True),
        (7, "bash", "apt-get install a", False),
        (8, "bash", "musicldm batch a.txt -o clips     --steps 3", False),
        (10, "bash", "python -c '\nprint(\"# no comment\")\n' > a.txt", False),
        (19, "bash", "musicldm report x", False),
        (23, "python", "f(x)", True),
        (23, "bash", "musicldm report y", True),
        (24, "bash", "musicldm report z", True),
        (27, "python", "a = 1\n\nb = a", False),
    ]


def test_names_alone_and_placeholders_are_mentions_in_prose_only():
    def mention(text: str, *, inline: bool = True) -> bool:
        return is_mention(Snippet("README.md", 1, "bash", text, inline))

    assert mention("musicldm batch --lora")
    assert mention("musicldm generate PROMPT --seed N")
    assert not mention("musicldm generate PROMPT --seed N", inline=False)
    assert not mention('musicldm generate "A WALTZ" -o a.wav')
    assert not mention("musicldm train ldm --keys")


def test_reductions_are_put_on_top_of_each_other():
    snippet = Snippet("README.md", 1, "bash", 'musicldm generate "a" -o a.wav')
    assert reduced(snippet) == 'musicldm generate "a" -o a.wav --steps 2 --seconds 1.28'
