"""The Python client: streams and single calls, through lost connections."""
