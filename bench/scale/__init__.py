"""How agent and tunnel do in a large cluster: `python -m bench.scale`, `make bench-scale`.

`cluster` says what there is, `loader` brings it into an API server. `node` runs one agent and its tunnel,
with `pods` of that node; `churn` changes others at a rate. `run` measures, `report` writes it down.
"""
