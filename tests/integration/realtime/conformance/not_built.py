"""What Hookcast does not have yet: tests that are expected to fail until it has. This list is only to get shorter.

A name stands for all parameters of its test, or for those in brackets. A listed test that passes is an error.
"""

NOT_BUILT: frozenset[str] = frozenset()
