"""Publish a finished run's tables on unsure texts: rejection by target accuracy, and the cascade to the teacher.

python distill.py --mode test --run runs/tnews5 --data ../shared/data/tnews5   # writes the report, if it is older
python benchmarks/selective.py --run runs/tnews5

Nothing is measured here: the figures are those of the run's report.json. Writes reject-NAME and cascade-NAME as .md and
.json into benchmarks/selective/, NAME being that of the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish  # noqa: E402

from distill.reporting.selective import CASCADE_NOTE, Section, areas, cascade_lines, notes, target_lines  # noqa: E402


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run whose report is written")
    folder = parser.parse_args().run
    path = folder / "report" / "report.json"
    report = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if not report.get("unsure"):
        parser.error(f"{path}: there is no report with a student and unsure texts -> python distill.py --mode test")
    section, target, name = Section.from_json(report["unsure"]), HERE / "selective", folder.resolve().name
    note = " ".join([*notes(section), areas(section)])
    figures = {key: value for key, value in report["unsure"].items() if key != "cascade"}
    publish(target / f"reject-{name}", target_lines(section), note, figures)
    if section.cascade:
        shipped = report["shipped"] or {}
        threads = f"Times on one thread of {shipped['machine']}." if shipped else report["timing"]
        conditions = {"timing": threads, "is_bundle": bool(shipped.get("is_bundle")), "model": section.model}
        rows = {"conditions": conditions, "rows": report["unsure"]["cascade"]}
        publish(target / f"cascade-{name}", cascade_lines(section), f"{CASCADE_NOTE} {threads}", rows)


if __name__ == "__main__":
    main()
