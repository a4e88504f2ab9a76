"""What is the same for all kinds: the store of objects, the view of it, and what a kind has to say of itself.

It knows no kind's descriptor. `agent.model.kinds` uses it, and `agent.model.model` brings both together: so
there is no circle, although a kind looks at others through the view.
"""
