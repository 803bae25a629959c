"""A flame graph of what `perf script` prints: callers below, what they call above, as wide as their share of samples.

Ours is blue, the kernel's sand, everybody else's red.
"""

import re
from html import escape

WIDTH, ROW, LEAST = 1400, 17, 0.4
KERNEL = "kernel: "


def stacks(text):
    """Each sample's functions, the outermost first."""
    for sample in text.split("\n\n"):
        frames = []
        for line in sample.splitlines()[1:]:
            if match := re.match(r"\s+[0-9a-f]+ (.*) \((.*)\)$", line):
                name = re.sub(r"(::h[0-9a-f]{16})?(\+0x[0-9a-f]+)?$", "", match.group(1))
                frames.append(KERNEL + name if "kernel" in match.group(2) else name)
        if frames:
            yield frames[::-1]


class Frame:
    """A function called in one way: how many samples it has, and what it calls."""

    def __init__(self):
        self.count = 0
        self.calls = {}

    def add(self, frames):
        self.count += 1
        if frames:
            self.calls.setdefault(frames[0], Frame()).add(frames[1:])

    def depth(self):
        return 1 + max((frame.depth() for frame in self.calls.values()), default=0)


def flame(text, title):
    """The picture as SVG; the pointer on a frame shows its whole name and its share."""
    root = Frame()
    for frames in stacks(text):
        # Deeper than that is recursion or a broken stack.
        root.add(frames[:120])
    if not root.count:
        raise RuntimeError("perf has no samples")
    height = (root.depth() + 2) * ROW
    parts = []

    def draw(name, frame, left, row):
        width = frame.count / root.count * WIDTH
        if width < LEAST:
            return
        share = f"{frame.count / root.count:.1%}"
        colour = "#d9a066" if name.startswith(KERNEL) else "#5b9bd5" if "clearcoat" in name else "#e8805c"
        top = height - (row + 1) * ROW
        letters = int(width / 6.6)
        label = escape(name.removeprefix(KERNEL)[:letters]) if letters > 3 else ""
        parts.append(
            f'<g><title>{escape(name)}: {share}</title><rect x="{left:.1f}" y="{top}" width="{max(width - 0.4, 0.2):.1f}" '
            f'height="{ROW - 1}" fill="{colour}"/><text x="{left + 2:.1f}" y="{top + 12}">{label}</text></g>'
        )
        for called, below in sorted(frame.calls.items()):
            draw(called, below, left, row + 1)
            left += below.count / root.count * WIDTH

    draw(title, root, 0, 0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">\n'
        "<style>text { font: 11px ui-monospace, monospace; fill: #111 }</style>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="#f6f4ee"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
