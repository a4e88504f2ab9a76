"""How long a file may be."""

LONGEST = 400  # lines
REASON = "Longer than other files:"
"""What a file says at its head that is longer."""
