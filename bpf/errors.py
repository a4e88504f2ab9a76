"""What goes wrong with the kernel's part."""


class BpfError(Exception):
    """One line for people: what could not be done, why, and what helps."""
