"""The peer's side of bench_statistics.py, run by the interpreter of its own environment: rows in, results out.

Reads n, sum, sum of squares of both arms from the .npz named first; writes p-values and intervals to the second.
"""

import sys
import time

import numpy as np
from gbstats.frequentist.tests import (
    FrequentistConfig,
    SequentialConfig,
    SequentialTwoSidedTTest,
    TwoSidedTTest,
)
from gbstats.models.statistics import SampleMeanStatistic


def main(source: str, target: str) -> None:
    data = np.load(source)
    rows = list(zip(*(data[name].ravel().tolist() for name in ("nc", "sc", "qc", "nt", "st", "qt")), strict=True))
    fixed, sequential = FrequentistConfig(difference_type="absolute"), SequentialConfig(difference_type="absolute")
    found = []
    begun = time.process_time()
    for nc, sc, qc, nt, st, qt in rows:
        arms = SampleMeanStatistic(nc, sc, qc), SampleMeanStatistic(nt, st, qt)
        plain = TwoSidedTTest(*arms, fixed).compute_result()
        always = SequentialTwoSidedTTest(*arms, sequential).compute_result()
        found.append((plain.p_value, *plain.ci, *always.ci))
    cpu = time.process_time() - begun
    np.savez(target, results=np.array(found), cpu=cpu)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
