import numpy as np

from ser_kedro.preferences.shingles import HASHES, _least


def test_minhash_values_are_those_of_datasketch():
    """``MinHash(num_perm=64, seed=1, hashfunc=int, scheme="affine32")``, its 2.0.0."""
    grams = np.array([1, 2, 3, 400_000, 5], np.uint64)
    found = _least(np.array([0, 0, 0, 1, 1]), grams, 3)
    assert found.shape == (3, HASHES)
    assert found[0, :4].tolist() == [3030975794, 722428402, 1300064280, 2264684970]
    assert found[1, :4].tolist() == [1140364452, 192093276, 2262419262, 474951968]
    assert not found[2].any()
