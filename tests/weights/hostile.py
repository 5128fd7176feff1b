"""What must not be unpickled."""


class Hostile:
    """What executes when it is unpickled, by leaving a file."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, 'w')
