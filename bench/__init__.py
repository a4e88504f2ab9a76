"""The benchmark: Warren beside no mesh, a pair of Envoys and a pair of ztunnels, in one interleaved run.

`python -m bench` is the entry. `stage` makes the ways from a client pod to a server pod, `workloads` says
what is done over each, `measure` does it once and accounts for the CPU time, `run` repeats it in rounds,
`report` and `plot` show it.
"""
