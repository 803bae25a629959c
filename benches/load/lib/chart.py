"""A bar chart of CPU time a request, as SVG: a group for each workload, a bar for each server, readable on light and dark."""

from html import escape

from .results import goals

# Colours that stand out from white and from black, in the order of the servers; ours is the strong one.
COLOURS = {
    "clearcoat": "#2f81f7", "varnish": "#b08800", "nginx": "#3fa45b", "nginx-log": "#7fbf8e", "haproxy": "#a371c9", "epoll": "#8b949e",
}
LEFT, WIDTH, BAR, GAP = 110, 760, 15, 14


def chart(results, workloads):
    """The workloads that have goals; bars are as long as their share of the group's longest, with the number beside them."""
    aimed = {goal.workload for goal in goals()}
    shown = [workload for workload in workloads if workload.name in aimed and len(results.rounds.get(workload.name, {})) > 1]
    parts, top = [], 56
    for workload in shown:
        servers = results.rounds[workload.name]
        values = {server: results.median(workload.name, server, "cpu_us") for server in COLOURS if server in servers}
        longest = max(values.values())
        middle = top + len(values) * BAR / 2 + 4
        parts.append(f'<text class="name" x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(workload.name)}</text>')
        for server, value in values.items():
            length = max(1.0, value / longest * (WIDTH - LEFT - 150))
            text = f"{value:.1f} µs" + ("" if server == "clearcoat" else f"  ({server})")
            weight = ' class="name"' if server == "clearcoat" else ""
            parts.append(
                f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR - 3}" rx="2" fill="{COLOURS[server]}"/>'
                f'<text{weight} x="{LEFT + length + 6:.1f}" y="{top + BAR - 5}">{escape(text)}</text>'
            )
            top += BAR
        top += GAP
    legend = []
    for place, server in enumerate(server for server in COLOURS if any(server in results.rounds[w.name] for w in shown)):
        at = LEFT + place * 100
        legend.append(f'<rect x="{at}" y="28" width="10" height="10" rx="2" fill="{COLOURS[server]}"/><text x="{at + 15}" y="37">{server}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img">\n'
        "<title>CPU time of the server for one request; less is better</title>\n"
        "<style>text { font: 11px system-ui, sans-serif; fill: #24292f } .name { font-weight: 600 }\n"
        "@media (prefers-color-scheme: dark) { text { fill: #d0d7de } }</style>\n"
        f'<text class="name" x="{LEFT}" y="16">CPU time of the server for one request, on one core; less is better</text>\n'
        + "\n".join(legend + parts) + "\n</svg>\n"
    )
