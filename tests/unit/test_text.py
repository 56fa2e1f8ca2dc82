"""How lists of names are written."""

from __future__ import annotations

import pytest

from rlm.core.text import named


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, ""), (1, "n0"), (3, "n0, n1, n2"), (4, "n0, n1, n2 and 1 more"), (1788, "n0, n1, n2 and 1,785 more")],
)
def test_so_many_names_are_written_and_the_others_counted(number, written):
    assert named([f"n{index}" for index in range(number)], 3) == written
