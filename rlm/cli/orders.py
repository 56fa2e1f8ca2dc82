"""`rlm orders`: what was ordered over HTTP, by the dashboard or a program, and of hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.cli.common import command, store_of
from rlm.cli.options import number_argument
from rlm.cli.printing import print_json, show_words, table

if TYPE_CHECKING:
    from pathlib import Path


@command("rlm orders", "rlm orders 100 --json | jq '.[] | select(.what == \"cancel_run\")'")
@number_argument
def orders(config: Path | None, number: int) -> None:
    """List the last N orders (20) that came over HTTP or are about hosts, newest first: what, by whom, why.

    Each is noted before it is carried out. The newest 1000 are kept. What other commands change of endpoints is in
    `rlm endpoint changes`.
    """
    from rlm.admin.report import order_list

    with store_of(config) as store:
        entries = order_list(store, number)
    print_json(entries)
    if not entries:
        show_words("Nothing was ordered yet. `rlm web` serves the dashboard, and `rlm supervisor drain` is an order.")
    else:
        names = ["at", "by", "address", "what", "about", "reason"]
        table(names, [[one[name] for name in names] for one in entries], right=())
