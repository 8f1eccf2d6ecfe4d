"""Lint for wordings and spellings that CONTRIBUTING.md rules out.

``python -m tools.prose`` checks every tracked text file and exits with 1 if it finds one.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = re.compile(r".*\.(py|ya?ml|md|ipynb|toml|cff|html|js|css)|Makefile|\.ci/run")
EXCEPTIONS = {
    "docs/weights.md": "Grey",
    "src/mprnet_lit/utils/deprecated.py": "quantise",
    "src/mprnet_lit/weights/info.py": "licence",
    "tests/weights/test_io.py": "licence",
    "tools/photographs.py": "Grey",
}
"""Names that a file must contain: deprecated ones, and those of others."""
EXCLUDED = ("tests/fixtures/", "tools/prose.py", "docs/performance", "docs/quality.json")

PATTERNS = {
    # wording: replacement
    r"\b(go(es)?|going|went|gone) on (with|from)\b": "continue, resume",
    r"\bgo(es)? on without\b": "continue without",
    r"\b(leave|leaves|left|leaving) out\b": "skip, omit",
    r"\bshar(e|es|ed|ing) out\b": "split, distribute",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(is|are|was|were|been|be|unless|if|as) told\b": "name who sets it: 'set', 'configured'",
    r"\bwhole or not at all\b": "atomically",
    r"\bin turn\b": "sequentially, one at a time",
    r"\bto the letter\b": "exactly",
    r"\b(nothing|anything) but\b": "only; anything other than",
    r"\bsome (?=\d)": "about",
    r"\bends? in an? (traceback|error)\b": "causes a traceback",
    r"(?<!optuna-)\bdashboards?\b": "logger",
    r"\b(is|are|was) none (of|such)\b": "is not one of",
    r"(?<!there )\b(is|are|was) no (?!longer|more|other|matter|need|such)\w+": "is not a ...",
    r"\bone's own\b": "your own, custom",
    r"\bof one's\b": "custom",
    r"\bfor want of\b": "for lack of, without",
    r"\bso many\b": "this number of",
    r"\b(began?|begins?|starts?|train(ed|ing)?|restore[sd]?) anew\b": "again, from scratch",
    r"\bwhat (is|was|are|were) (kept|there|written|left|made|measured|said|meant|given)\b":
        "name the thing: 'the file', 'the result'",
    r"\bwhat (came|comes|becomes|became) of\b": "the result of, the outcome of",
    r"\bwhatever (is|was|lies|else)\b": "any ...",
    r"\bin (its|their|your|our) own words\b": "(the message: ...)",
    r"'s own words\b": "the message of ...",
    r"\bhow many\b(?=[^?]{0,60}:)": "number of",
    r"\bstands? (beside|below|above)\b": "is listed, follows",
    r"\bputs? (it|them) right\b": "corrects",
    # American spelling
    r"\b\w*(colour|behaviour|neighbour|favour|honour)\w*": "-or: color, behavior",
    r"\b(grey|greys|greyscale)\b": "gray",
    r"\b\w*(optimis|quantis|normalis|initialis|recognis|serialis|generalis|organis|summaris|"
    r"minimis|maximis|visualis|parallelis|synchronis|utilis|customis|emphasis)(e|ed|es|er|ers|ing|"
    r"ation|ations)\b": "-ize",
    r"\b(centre|centres|centred|metre|metres)\b": "center, meter",
    r"(?<![\"'`])\blicence[sd]?\b": "license",
    r"\b(cancelled|labelled|modelled|travelled|labelling|modelling)\b": "one l: labeled",
    r"\bdefence\b|\boffence\b": "-se",
    r"\bwhilst\b|\bamongst\b": "while, among",
}  # fmt: skip
"""Mapping from the regular expression of a wording to its replacement."""


def check(path: Path, name: str) -> list[str]:
    """Return one line per ruled-out wording in a file."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for pattern, instead in _COMPILED.items():
            match = pattern.search(line)
            if match and match[0] != EXCEPTIONS.get(name):
                found.append(f"{name}:{number}: '{match[0]}': {instead}")
    return found


_COMPILED = {re.compile(pattern, re.IGNORECASE): text for pattern, text in PATTERNS.items()}


def main() -> int:
    """Print the findings of all tracked files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = []
    for name in listed.stdout.split("\0"):
        if FILES.fullmatch(name) and not name.startswith(EXCLUDED):
            found += check(ROOT / name, name)
    print("\n".join(found) or "prose: no findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
