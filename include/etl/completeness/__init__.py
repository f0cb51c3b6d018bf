"""Proves that what is published is what the source held: counts and checksums along every link of the chain.

    source == raw parts          `extraction.py`, in the session that has read them
    raw parts == when they were written   `extraction.py`, where transform reads them
    rows left out as published before, or taken out of older files, stand elsewhere   `replaced.py`
    raw - removed == interim == every published format   `publication.py`, before the publication is certain

`checksums.py` has the SQL of each database, `totals.py` what is counted and how it is compared.
"""
