"""Every command and every Python snippet of every page runs, as it stands or as `reductions.py` shortens it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from .checks import ROOT, problem, undefined
from .inputs import INPUTS
from .reading import snippets
from .reductions import CHANGES, NOT_RUN, is_mention, not_run
from .session import failures

ROOMS = ("musicldm", "weights_convert", "tests", "benchmarks")  # not build/, which `pip install .` leaves
PAGES = sorted([*ROOT.glob("*.md"), *(page for room in ROOMS for page in (ROOT / room).rglob("*.md"))])
ALL = {page.relative_to(ROOT).as_posix(): snippets(page, ROOT) for page in PAGES}
RUN = [page for page, found in ALL.items() if any(not not_run(s) and not is_mention(s) for s in found)]
EVERY = [snippet for found in ALL.values() for snippet in found]


@pytest.mark.parametrize("page", ALL)
def test_every_snippet_is_run_or_listed_and_its_options_exist(page):
    wrong = [f"{snippet}\n  {said}" for snippet in ALL[page] if (said := problem(snippet))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", ALL)
def test_the_python_of_a_page_uses_no_name_that_nothing_defines(page):
    assert not undefined([snippet.text for snippet in ALL[page] if snippet.language == "python"])


def test_no_entry_of_the_tables_is_without_a_snippet():
    unused = [change for change in CHANGES if not any(change.matches(snippet) for snippet in EVERY)]
    unused += [p for p in NOT_RUN if not any(re.fullmatch(p, s.text, re.DOTALL) for s in EVERY)]
    assert not unused
    assert all(change.why for change in CHANGES)
    assert set(ALL) == set(INPUTS), "pages that tests/documents/inputs.py does not know, or that are gone"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[dict[str, Future[list[str]]]]:
    """All pages, two at a time; the longest first."""
    folder = tmp_path_factory.mktemp("documents")
    with ThreadPoolExecutor(2) as pool:
        longest_first = sorted(RUN, key=lambda page: -len(ALL[page]))
        yield {
            page: pool.submit(failures, folder / str(k), page, ALL[page])
            for k, page in enumerate(longest_first)
        }


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_snippets_of_a_page_run(page, runs):
    wrong = runs[page].result()
    assert not wrong, f"{len(wrong)} of {len(ALL[page])}\n" + "\n\n".join(wrong)
