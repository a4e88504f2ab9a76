"""Pages of metrics with those of generations that serve no more."""

import os
from pathlib import Path

from tests.support.prometheus import complaints
from tunnel.handover import Places
from tunnel.retired import joined, leave, left

NOW = """# HELP a Ones.
# TYPE a counter
a_total{x="1"} 2
# HELP b Twos.
# TYPE b gauge
b 3
"""
FORMER = """# HELP a Ones.
# TYPE a counter
a_total{x="1"} 5
a_total{x="}"} 6
# HELP b Twos.
# TYPE b gauge
b 4
# HELP c Threes.
# TYPE c counter
c_total 1
"""
BOTH = """# HELP a Ones.
# TYPE a counter
a_total{x="1"} 2
a_total{generation="7",x="1"} 5
a_total{generation="7",x="}"} 6
# HELP b Twos.
# TYPE b gauge
b 3
b{generation="7"} 4
# HELP c Threes.
# TYPE c counter
c_total{generation="7"} 1
"""


def test_each_family_is_there_once_with_the_samples_of_all() -> None:
    assert joined(NOW, {}) == NOW
    assert joined(NOW, {7: FORMER}) == BOTH
    older = BOTH.replace("# HELP a ", "# HELP a_total ").replace("# TYPE a ", "# TYPE a_total ")
    older = older.replace("# HELP c ", "# HELP c_total ").replace("# TYPE c ", "# TYPE c_total ")
    assert not complaints(older)


def test_what_is_left_is_told_for_five_minutes(tmp_path: Path) -> None:
    places = Places(tmp_path)
    leave(places, 7, FORMER)
    leave(places, 8, NOW)
    assert left(places) == {7: FORMER, 8: NOW}
    path = places.metrics(7)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 301))
    assert left(places) == {8: NOW}
    assert not path.exists()
