"""Draws docs/img/drop_ray.svg for docs/reference/geometry.md: python docs/drawings/drop_ray.py"""

from pathlib import Path

CAMERA_M, SLOPE, DEPTHS_M = 0.5, 0.16, (4.0, 9.0, 15.0)
WIDTH, HEIGHT, LEFT, FLOOR = 760, 330, 60, 280
PX_PER_M = (42.0, 68.0)  # along the depth and up: not to scale


def at(depth_m: float, height_m: float) -> tuple[float, float]:
    return LEFT + PX_PER_M[0] * depth_m, FLOOR - PX_PER_M[1] * height_m


def line(start, end, style: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="{style}"/>'


def text(place, words: str, anchor: str = "start") -> str:
    x, y = place
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def drawing() -> str:
    parts = [
        line(at(0, 0), at(16.2, 0), "stroke:#666;stroke-width:2"),
        line(at(0, 0), at(0, CAMERA_M), "stroke:#666;stroke-dasharray:3 3"),
        line(at(0, CAMERA_M), at(16.2, CAMERA_M), "stroke:#bbb;stroke-dasharray:6 4"),
        line(at(0, CAMERA_M), at(16.2, CAMERA_M + 16.2 * SLOPE), "stroke:#0072B2;stroke-width:2"),
        line(at(1.2, 0.2), at(1.2, 1.6), "stroke:#D55E00;stroke-width:2"),
    ]
    x, y = at(0, CAMERA_M)
    parts.append(f'<circle cx="{x}" cy="{y}" r="5"/>')
    for depth_m in DEPTHS_M:
        height_m = CAMERA_M + SLOPE * depth_m
        side = 4 + 3 * depth_m
        x, y = at(depth_m, height_m)
        parts.append(
            f'<rect x="{x - side / 2:.1f}" y="{y - side:.1f}" width="{side}" height="{side}" '
            'fill="#E69F00" fill-opacity="0.6"/>'
        )
        parts.append(line((x, y), at(depth_m, 0), "stroke:#999;stroke-width:2"))
    deep = DEPTHS_M[1]
    x, y = at(deep, 0.35 * (CAMERA_M + SLOPE * deep))
    parts += [
        text((x + 6, y), "Y = h + β Z"),
        text((at(deep, 0)[0], FLOOR + 20), "Z", "middle"),
        text((at(0, 0)[0] - 8, at(0, CAMERA_M / 2)[1]), "h", "end"),
        text((at(0, CAMERA_M)[0] - 10, at(0, CAMERA_M)[1] - 12), "camera", "middle"),
        text(at(0.7, 1.75), "image plane, at f: y = h + β f", "start"),
        text((at(16, CAMERA_M)[0], at(0, CAMERA_M)[1] + 16), "horizon (row (H - 1) / 2)", "end"),
        text((at(13, 0)[0], FLOOR + 36), "every fall from the ray has the same first frame", "end"),
    ]
    style = "font:14px sans-serif;background:#fff"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" style="{style}">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    target = Path(__file__).parents[1] / "img" / "drop_ray.svg"
    target.write_text(drawing(), encoding="utf-8")
