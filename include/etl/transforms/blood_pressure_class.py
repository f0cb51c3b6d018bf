"""Adds `blood_pressure_class` beside the systolic blood pressure, after the ESC/ESH grades of 2018 (in mmHg)."""

from __future__ import annotations

import pandas as pd

GRADES = [(0, "optimal"), (120, "normal"), (130, "high normal"), (140, "grade 1"), (160, "grade 2"), (180, "grade 3")]


def classify(visits: pd.DataFrame) -> pd.DataFrame:
    """Class of `systolic_bp` as text; missing where the pressure is missing or impossible (outside 40 to 300)."""
    pressure = visits["systolic_bp"]
    classes = pd.Series(pd.NA, index=visits.index, dtype="string[pyarrow]")
    for lowest, name in GRADES:
        classes = classes.mask(pressure.ge(lowest).fillna(False), name)
    possible = pressure.between(40, 300).fillna(False)
    return visits.assign(blood_pressure_class=classes.where(possible, pd.NA))
