"""Great Expectations is imported without what it does not need, and still has it when it is needed."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from include.etl.validation import _quiet_import
runner = _quiet_import("include.etl.validation.runner")
assert not [name for name in sys.modules if name.startswith(("scipy.stats", "altair", "azure"))], "imported after all"
from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as divergence
assert divergence.stats.entropy([0.5, 0.5]) > 0
import scipy.stats, azure
assert scipy.stats.norm.cdf(0) == 0.5
"""


def test_lean_import() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
