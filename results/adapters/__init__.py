"""The adapters of three methods as modules that train, and their releases' own files."""
