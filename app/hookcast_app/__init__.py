"""The FastAPI app and the dispatcher: one folder per feature."""
