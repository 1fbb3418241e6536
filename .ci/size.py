"""The size of the repository as a table: python .ci/size.py [ROOT]."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SMALL = 40  # lines


def size_table(root: Path) -> Iterator[tuple[str, str]]:
    """Name and value of each row."""
    source = root / "src" / "pisa"
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(source.rglob("*.py"))}
    packages: dict[str, list[int]] = defaultdict(list)
    for path, text in texts.items():
        parts = path.relative_to(source).parts
        packages[parts[0] if len(parts) > 1 else "(top)"].append(text.count("\n"))
    for name, lengths in packages.items():
        yield f"src/pisa/{name}", f"{len(lengths)} files, {sum(lengths)} lines"
    total = sum(map(sum, packages.values()))
    yield "src/pisa", f"{len(texts)} files, {total} lines"
    small = [p for p, t in texts.items() if t.count("\n") < SMALL and p.name != "__init__.py"]
    names = ", ".join(str(path.relative_to(source)) for path in small[:9])
    yield f"modules under {SMALL} lines", f"{len(small)}: {names}"
    tests = list((root / "tests").rglob("*.py"))
    lines = sum(path.read_text(encoding="utf-8").count("\n") for path in tests)
    yield "tests", f"{len(tests)} files, {lines} lines"
    yield "configs", str(len(list((root / "configs").rglob("*.yaml"))))
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    words = {page: len(page.read_text(encoding="utf-8").split()) for page in pages}
    book = sum(count for page, count in words.items() if "lab_book" in page.parts)
    yield "words in README and docs", f"{sum(words.values())}, of them lab book {book}"
    found = [(path.relative_to(source), *f) for path, t in texts.items() for f in functions(t)]
    longest = sorted(found, key=lambda row: -len(row[2]))[:4]
    rows = [f"{len(names)} {path}:{name}" for path, name, names in longest]
    yield "longest parameter lists", ", ".join(rows)
    reading = sorted({str(path) for path, _, names in found if "cfg" in names})
    number = sum("cfg" in names for _, _, names in found)
    yield "functions with cfg", f"{number}, in {', '.join(reading)}"


def functions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every function's name with the names of its parameters, ``self`` and ``cls`` left out."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            yield node.name, [a.arg for a in given if a.arg not in ("self", "cls")]


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    for name, value in size_table(root):
        print(f"{name:26} {value}")
