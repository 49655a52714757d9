"""The app in the reader's browser: one process with no threads, no ports and no Jupyter."""
