"""``python -m segment_otherwise IMAGES OUTPUT``: segment by another network than the tests of cohorts do."""

import importlib.util
import sys
from pathlib import Path

if __name__ == "__main__":
    path = Path(__file__).resolve().parents[1] / "inference" / "test_cohort.py"
    spec = importlib.util.spec_from_file_location("test_cohort", path)
    cohort = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cohort)
    cohort.evaluator(Path(sys.argv[1]), Path(sys.argv[2]), threshold=0.9).run()
