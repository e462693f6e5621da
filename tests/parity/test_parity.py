import pytest

from .adapters import SYSTEMS
from .harness import TOLERANCE, cases, differences


@pytest.mark.parametrize(("system", "case"), [(s, c) for s in SYSTEMS for c in cases(s)])
def test_equals_authors_code(system, case):
    apart = differences(system, case, SYSTEMS[system])
    assert max(apart.values()) <= TOLERANCE, apart
