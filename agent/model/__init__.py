"""The mesh as one value: `model.apply` is the tour, `kinds` what each kind means and how to add one.

`schema` is what is read of objects, `engine` is the same for all kinds, `translation` is for several kinds.
"""
