"""A chart of recall against speed, as SVG."""

import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 560, 70, 270, 40, 60
# The recall axis shows misses on a logarithmic scale, so that 0.99 and 0.999 are not one place.
RECALLS = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]
CEILING = 0.9995
# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ["#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00"]
DASHES = ["", "6 3", "2 3"]


def frontier(points):
    """Of (recall, speed) points those that no other is better than in both, by recall."""
    best, kept = 0.0, []
    for recall, speed in sorted(points, reverse=True):
        if speed > best:
            best = speed
            kept.append((recall, speed))
    return kept[::-1]


def across(recall):
    """The horizontal place of a recall."""
    low, high = (-math.log10(1 - edge) for edge in (RECALLS[0], CEILING))
    share = (-math.log10(1 - min(recall, CEILING)) - low) / (high - low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def chart(title, engines):
    """The SVG text. `engines` is {name: [(recall, speed as a multiple of numpy's scan), ...]}."""
    fronts = {name: [point for point in frontier(points) if point[0] >= RECALLS[0]] for name, points in engines.items()}
    fronts = {name: front for name, front in fronts.items() if front}
    speeds = [speed for front in fronts.values() for _, speed in front]
    low, high = math.floor(math.log10(min(speeds))), math.log10(max(speeds)) + 0.1
    up = lambda speed: HEIGHT - BOTTOM - (math.log10(speed) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>',
    ]
    for recall in RECALLS:
        x = across(recall)
        lines.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{recall:g}</text>')
    for exponent in range(low, math.ceil(high)):
        for factor in (1, 2, 5):
            speed = factor * 10**exponent
            if math.log10(speed) <= high:
                y = up(speed)
                lines.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
                lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{speed:g}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    lines.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 18}" text-anchor="middle">recall@10</text>')
    lines.append(f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">queries a second, x numpy</text>')
    for number, (name, front) in enumerate(fronts.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        width = 3 if name.startswith("vexfs") else 1.5
        style = f'stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"'
        places = " ".join(f"{across(recall):.1f},{up(speed):.1f}" for recall, speed in front)
        lines.append(f'<polyline points="{places}" fill="none" {style}/>')
        lines += [f'<circle cx="{across(recall):.1f}" cy="{up(speed):.1f}" r="{width + 0.5}" fill="{colour}"/>' for recall, speed in front]
        y = TOP + 10 + 20 * number
        lines.append(f'<line x1="{WIDTH - RIGHT + 20}" y1="{y}" x2="{WIDTH - RIGHT + 50}" y2="{y}" {style}/>')
        lines.append(f'<text x="{WIDTH - RIGHT + 58}" y="{y + 4}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
