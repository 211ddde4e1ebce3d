"""What the app and the operator agree on: pure functions and types, no I/O, nothing async."""
