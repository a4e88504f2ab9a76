"""A peer with a right certificate that means harm, an honest one beside it, and what the tunnel must hold.

`stage.py` has the lab, `attack.py` one attack with all that is watched meanwhile, `flood.py` the floods of a
neighbour, `bounds.py` what must hold, `report.py` the table. The peer itself is `bench/load/src/hostile`.
"""
