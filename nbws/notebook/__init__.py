"""Everything that knows Jupyter. Imported only where there is an IPython shell, or a notebook to be run."""
