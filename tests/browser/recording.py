"""Makes docs/pictures/demo.svg anew, a recording of the demo as it runs: uv run python -m tests.browser.recording."""

from __future__ import annotations

import html
import subprocess
import sys
import time
from pathlib import Path

PICTURE = Path(__file__).parents[2] / "docs/pictures/demo.svg"
#: The terminal, in characters, and the size of one of them in pixels.
COLUMNS, WIDTH, HEIGHT = 130, 8.0, 19
STYLE = (
    "text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#e6edf3;white-space:pre;animation:come .1s backwards}"
    "@keyframes come{from{opacity:0}}"
)


def main() -> None:
    began, lines = time.monotonic(), [(0.0, "$ pip install uv && uv run rlm demo")]
    command = [sys.executable, "-m", "rlm", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        lines += [(time.monotonic() - began, line.rstrip()) for line in demo.stdout]
    assert demo.returncode == 0
    wide, high = round((COLUMNS + 2) * WIDTH), (len(lines) + 1) * HEIGHT
    rows = (
        f'<text x="{WIDTH}" y="{(number + 1) * HEIGHT}" style="animation-delay:{at:.1f}s">{html.escape(text)}</text>'
        for number, (at, text) in enumerate(lines)
        if text
    )
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}"><style>{STYLE}</style>'
    background = '<rect width="100%" height="100%" rx="6" fill="#0d1117"/>'
    PICTURE.write_text("\n".join([frame, background, *rows, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
